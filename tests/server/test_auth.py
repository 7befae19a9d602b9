"""Who is believed: extensions on loopback, tokens everywhere, and nobody else."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.server.conftest import Server, problem, running
from whisperagent import settings, wire
from whisperagent.errors import ConfigError
from whisperserver import auth

KEY = "k" * 32
EVERYWHERE = settings.Serve(host="0.0.0.0", signing_key=KEY, free_mib=0)  # noqa: S104 - what is tested


def ask(server: Server, **headers: str) -> httpx.Response:
    return httpx.get(f"{server.url}{wire.CALLS}", headers=headers)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that listens beyond this machine, as far as it knows."""
    with running(tmp_path_factory.mktemp("open"), serve=EVERYWHERE) as server:
        yield server


# On loopback


def test_on_loopback_an_extension_is_enough_and_needed(shared: Server) -> None:
    assert ask(shared, **{"X-Extension": "201"}).status_code == 200
    said = problem(ask(shared), 401, "not-authenticated")
    assert said.fix == "send `X-Extension: 201`, with your own extension"
    problem(ask(shared, **{"X-Extension": "two oh one"}), 401, "not-authenticated")


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_what_a_proxy_passes_on_is_not_of_this_machine(shared: Server, header: str) -> None:
    problem(ask(shared, **{"X-Extension": "201", header: "127.0.0.1"}), 401, "not-authenticated")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:3002", "localhost:3002", "[::1]", "[::1]:3002"])
def test_every_name_of_this_machine_is_believed(shared: Server, host: str) -> None:
    assert ask(shared, **{"X-Extension": "201", "Host": host}).status_code == 200
    same_origin = {"X-Extension": "201", "Host": host, "Origin": f"http://{host}"}
    assert ask(shared, **same_origin).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example",
        "127.0.0.1.rebound.example",
        "rebound.example:3002",
        "[2001:db8::1]:3002",
        "::1",
        "[",
        "0",
    ],
)
def test_another_name_than_this_machines_is_not_believed(shared: Server, host: str) -> None:
    """A page whose name was made to lead here (DNS rebinding) asks under that name."""
    asked = {"X-Extension": "201", "Host": host, "Origin": f"http://{host}"}
    problem(ask(shared, **asked), 401, "not-authenticated")


def test_where_tokens_are_made_a_token_is_needed_on_loopback_too(tmp_path: Path) -> None:
    """A proxy of this machine that says nothing of whom it passes on looks like a program of it."""
    serve = settings.Serve(signing_key=KEY, free_mib=0)
    with running(tmp_path / "behind", serve=serve) as server:
        problem(ask(server, **{"X-Extension": "201"}), 401, "not-authenticated")
        assert ask(server, **bearer(auth.make_token(serve, "201", days=1))).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_origin_may_not_ask(shared: Server, origin: str) -> None:
    problem(ask(shared, **{"X-Extension": "201", "Origin": origin}), 403, "forbidden")


def test_a_recording_is_sent_in_ones_own_name_only(server: Server) -> None:
    call_id = wire.new_call_id()
    with server.http("202") as http:
        metadata = f'{{"call_id": "{call_id}", "extension": "201", "started_at": "2026-11-25T09:00:00Z"}}'
        answer = http.post(
            wire.UPLOAD_RECORDING,
            files={"metadata": (None, metadata), "recording": ("x", server.seal(b"\0" * 64, call_id))},
        )
    problem(answer, 403, "forbidden")
    assert server.rows("SELECT count(*) FROM calls") == [(0,)]


# Beyond it


def test_beyond_loopback_a_token_says_who_asks(open_server: Server) -> None:
    token = auth.make_token(EVERYWHERE, "201", days=1)
    assert ask(open_server, **bearer(token)).status_code == 200
    assert ask(open_server, **bearer(token), **{"X-Extension": "201"}).status_code == 200
    problem(ask(open_server, **bearer(token), **{"X-Extension": "202"}), 403, "forbidden")
    answer = ask(open_server, **{"X-Extension": "201"})
    problem(answer, 401, "not-authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


def claims(**changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    good = {"aud": "whisperagent", "ext": "201", "iat": now, "exp": now + timedelta(hours=1), "jti": "1"}
    return {name: value for name, value in (good | changes).items() if value is not None}


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        jwt.encode(claims(), "x" * 32, "HS256"),
        jwt.encode(claims(), None, "none"),
        jwt.encode(claims(), KEY * 2, "HS512"),
        jwt.encode(claims(exp=datetime.now(UTC) - timedelta(hours=1)), KEY, "HS256"),
        jwt.encode(claims(aud="another"), KEY, "HS256"),
        *(jwt.encode(claims(**{name: None}), KEY, "HS256") for name in ("ext", "exp", "iat", "jti", "aud")),
    ],
    ids=["noise", "other key", "no signature", "other algorithm", "expired", "other audience"]
    + [f"without {name}" for name in ("ext", "exp", "iat", "jti", "aud")],
)
def test_a_token_that_is_not_ours_is_refused(open_server: Server, token: str) -> None:
    problem(ask(open_server, **bearer(token)), 401, "not-authenticated")


def test_a_bad_token_is_refused_on_loopback_too(shared: Server) -> None:
    problem(ask(shared, **bearer("nonsense"), **{"X-Extension": "201"}), 401, "not-authenticated")


def test_only_health_and_figures_are_for_everybody(open_server: Server) -> None:
    for path in (wire.LIVE, wire.READY, wire.METRICS):
        assert httpx.get(f"{open_server.url}{path}").status_code == 200
    for path in (wire.CALLS, wire.SERVER_KEY, "/schema", "/schema/openapi.json", f"{wire.CALLS}/x/audio"):
        problem(httpx.get(f"{open_server.url}{path}"), 401, "not-authenticated")


# At the start


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.100", "server.example"])  # noqa: S104 - as above
def test_a_server_beyond_loopback_does_not_start_without_a_key(host: str) -> None:
    with pytest.raises(ConfigError) as refused:
        auth.check_bind(settings.Serve(host=host))
    assert "| wa config set serve.signing_key -" in refused.value.fix
    auth.check_bind(settings.Serve(host=host, signing_key=KEY))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_a_server_on_loopback_starts_without_a_key(host: str) -> None:
    auth.check_bind(settings.Serve(host=host))


def test_a_short_key_signs_nothing() -> None:
    short = settings.Serve(signing_key="secret")
    with pytest.raises(ConfigError):
        auth.check_bind(short)
    with pytest.raises(ConfigError):
        auth.make_token(short, "201", days=1)
    with pytest.raises(ConfigError):
        auth.make_token(settings.Serve(), "201", days=1)
