"""`wa doctor`: what is wrong is said, with its cure, and looking changes nothing."""

import asyncio
import base64
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import filelock
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.agent.fake_pc import HEADSET_MICROPHONE, WEBCAM, FakeAutostart, FakePc
from tests.agent.fake_server import FakeServer
from tests.agent.fakes import OFF, TALKING
from tests.agent.test_cli import waiting, write_status
from whisperagent import __version__, bundle, doctor, settings
from whisperagent.doctor import Finding
from whisperagent.doctor.sound import used
from whisperagent.errors import ConfigError, HostUnavailable
from whisperagent.hosts import Way
from whisperagent.settings import Loaded
from whisperagent.spool import Spool
from whisperagent.wire import SpoolState
from whisperserver.auth import make_token
from whisperserver.demo.line import Line

Load = Callable[..., Loaded]


def examined(
    loaded: Loaded | ConfigError, pc: FakePc | None = None, *, at_login: bool = True
) -> dict[str, Finding]:
    """The findings by their check; they come in this order."""

    async def all_of_them() -> list[Finding]:
        return [
            finding
            async for finding in doctor.examine(
                loaded, lambda _settings: pc or FakePc(), lambda _paths: FakeAutostart(installed=at_login)
            )
        ]

    found = asyncio.run(all_of_them())
    by_check = {finding.check: finding for finding in found}
    assert len(by_check) == len(found)
    return by_check


def results(found: dict[str, Finding]) -> dict[str, str]:
    return {check: finding.result for check, finding in found.items()}


def pin(home: Path, key: X25519PrivateKey) -> bytes:
    content = base64.b64encode(key.public_key().public_bytes_raw()) + b"\n"
    (home / "server.key").write_bytes(content)
    return content


# The server


def test_the_checks_follow_the_way_of_a_call(loaded: Load, server: FakeServer, home: Path) -> None:
    server.start()
    write_status(home, version=__version__)
    assert list(examined(loaded())) == [
        "config",
        "extension",
        "home",
        "space",
        "agent",
        "softphone",
        "signals",
        "titles",
        "microphone",
        "caller",
        "spool",
        "server",
        "clock",
        "token",
        "key",
        "channel",
        "autostart",
        "last_call",
    ]


def test_without_a_server_the_rest_of_the_pc_is_well(loaded: Load) -> None:
    found = examined(loaded())
    assert [check for check, result in results(found).items() if result == "failed"] == ["server"]
    assert "refused" in found["server"].why
    assert "wa server serve" in found["server"].fix
    assert not {"clock", "token", "key", "channel"} & set(found)


@pytest.mark.parametrize(("offline", "result"), [(False, "warning"), (True, "ok")])
def test_no_server_at_all_is_meant_in_offline_mode(loaded: Load, offline: bool, result: str) -> None:
    found = examined(loaded({"server.url": "", "offline.enabled": offline, "offline.model": "demo"}))
    assert found["server"].result == result
    assert found["server"].what == "no server is named"
    assert not {"clock", "token", "key", "channel"} & set(found)


def test_a_pc_that_can_draft_its_calls_says_with_which_model(loaded: Load) -> None:
    found = examined(loaded({"offline.enabled": True, "offline.model": "demo"}))
    assert found["offline"].result == "ok"
    assert "by demo" in found["offline"].what
    assert "after 10 min" in found["offline"].what


def test_a_model_that_is_not_there_is_found_before_it_is_needed(loaded: Load) -> None:
    found = examined(loaded({"offline.enabled": True, "offline.model": "small"}))
    assert found["offline"].result == "failed"
    assert "`small`" in found["offline"].what
    assert "wa server model pull small" in found["offline"].fix


def test_an_address_of_something_else_is_told_apart(loaded: Load, tmp_path: Path) -> None:
    class Elsewhere(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    other = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    Thread(target=other.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        found = examined(loaded({"server.url": f"http://127.0.0.1:{other.server_port}"}))
    finally:
        other.shutdown()
        other.server_close()
    assert found["server"].result == "failed"
    assert "does not answer like a WhisperAgent server" in found["server"].what
    assert "url" in found["server"].fix


def test_a_wrong_token_is_no_matter_of_the_network(
    loaded: Load, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = "the right one"
    server.start()
    monkeypatch.setenv("WA_TOKEN", "a wrong one")
    found = examined(loaded())
    assert (found["server"].result, found["token"].result) == ("ok", "failed")
    assert "wa server token" in found["token"].fix
    assert found["key"].result == "not here"
    monkeypatch.setenv("WA_TOKEN", "the right one")
    assert results(examined(loaded()))["token"] == "ok"


@pytest.mark.skipif(os.name != "posix", reason="only POSIX files have a mode")
def test_a_token_that_others_can_read_fails(loaded: Load, server: FakeServer, home: Path) -> None:
    server.start()
    (home / "token").write_text("secret")
    (home / "token").chmod(0o644)
    found = examined(loaded())
    assert found["token"].result == "failed"
    assert "chmod" in found["token"].fix


def test_another_key_than_the_pinned_one_fails_and_the_pin_stays(
    loaded: Load, server: FakeServer, home: Path
) -> None:
    server.start()
    pinned = pin(home, X25519PrivateKey.generate())
    found = examined(loaded())
    assert found["key"].result == "failed"
    assert str(home / "server.key") in found["key"].fix
    assert (home / "server.key").read_bytes() == pinned


def test_the_pinned_key_is_recognised(loaded: Load, server: FakeServer, home: Path) -> None:
    server.start()
    pin(home, server.key)
    assert results(examined(loaded()))["key"] == "ok"


def test_a_server_that_changed_its_key_and_proves_it_is_no_trouble(
    loaded: Load, server: FakeServer, home: Path
) -> None:
    server.start()
    pinned = pin(home, server.key)
    server.older_keys, server.key = (server.key,), X25519PrivateKey.generate()
    found = examined(loaded())
    assert found["key"].result == "ok"
    assert "new key" in found["key"].what
    assert (home / "server.key").read_bytes() == pinned


def test_a_damaged_pin_is_found(loaded: Load, server: FakeServer, home: Path) -> None:
    server.start()
    (home / "server.key").write_text("no key")
    assert results(examined(loaded()))["key"] == "failed"


@pytest.mark.parametrize(
    ("ahead_s", "result", "word"),
    [
        (0, "ok", "agree"),
        (-180, "warning", "3 min ahead"),
        (180, "warning", "3 min behind"),
        (10800, "failed", "3 h"),
    ],
)
def test_a_clock_that_is_wrong_is_measured(
    loaded: Load, server: FakeServer, ahead_s: float, result: str, word: str
) -> None:
    server.ahead_s = ahead_s
    server.start()
    found = examined(loaded())["clock"]
    assert found.result == result
    assert word in found.what


def test_a_server_without_review_channel_still_gets_the_calls(loaded: Load, server: FakeServer) -> None:
    server.start()
    found = examined(loaded())["channel"]
    assert found.result == "warning"
    assert "sent all the same" in found.what


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A real server with a signing key; the token of extension 201 is in `pc/token`."""
    real = Line(tmp_path_factory.mktemp("line"))
    config = real.server_home / "config.toml"
    settings.write(config, "serve.signing_key", "0" * 64)
    serve = settings.Serve(signing_key="0" * 64)
    (real.pc / "token").write_text(make_token(serve, "201", 1))
    (real.pc / "token").chmod(0o600)
    real.start_server()
    yield real
    real.stop()


@pytest.mark.slow
def test_a_pc_in_order_has_nothing_to_complain_about(
    line: Line, loaded: Load, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_status(home, version=__version__)
    monkeypatch.setenv("WA_TOKEN", (line.pc / "token").read_text())
    found = examined(loaded({"server.url": line.url}), FakePc([(60.0, TALKING)]))
    assert results(found) == dict.fromkeys(found, "ok") | {"last_call": "not here"}


@pytest.mark.slow
def test_a_real_server_refuses_a_token_of_somebody_else(
    line: Line, loaded: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WA_TOKEN", (line.pc / "token").read_text())
    found = examined(loaded({"server.url": line.url, "agent.extension": "202"}))
    assert (found["server"].result, found["token"].result) == ("ok", "failed")
    assert "202" in found["token"].what
    monkeypatch.setenv("WA_TOKEN", "made.up.token")
    assert examined(loaded({"server.url": line.url}))["token"].what == "this token is not valid"


# This PC


def test_a_broken_config_is_said_and_the_pc_is_looked_at_all_the_same(home: Path) -> None:
    (home / "config.toml").write_text("[server\n")
    with pytest.raises(ConfigError) as broken:
        settings.load()
    found = examined(broken.value)
    assert found["config"].result == "failed"
    assert "config.toml" in found["config"].what
    assert (found["home"].result, found["microphone"].result) == ("ok", "ok")
    assert found["server"].result == "not here"


def test_the_settings_for_everybody_are_named_too(loaded: Load, home: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    (home / "config.toml").touch()
    here = loaded()
    found = examined(replace(here, paths=replace(here.paths, shared=tmp_path)))["config"]
    assert found.result == "ok"
    assert str(tmp_path / "config.toml") in found.what
    assert str(home / "config.toml") in found.what


def test_a_pattern_that_is_none_fails(loaded: Load) -> None:
    found = examined(loaded({"detection.titles": ["("]}))["config"]
    assert found.result == "failed"
    assert "regular expression" in found.why


def test_without_an_extension_the_cure_is_a_command(loaded: Load) -> None:
    found = examined(loaded({"agent.extension": ""}))["extension"]
    assert found.result == "failed"
    assert "wa config set agent.extension" in found.fix


@pytest.mark.parametrize("part", ["spool", "spool/queued", "logs"])
def test_a_home_that_cannot_be_written_is_found(loaded: Load, home: Path, part: str) -> None:
    (home / part).parent.mkdir(exist_ok=True)
    (home / part).write_text("not a folder")
    found = examined(loaded())["home"]
    assert found.result == "failed"
    assert str(home / part) in found.what
    assert "WA_HOME" in found.fix


def test_a_full_disk_is_found_before_a_call_is_lost(loaded: Load) -> None:
    found = examined(loaded({"recording.free_mib": 1 << 40}))["space"]
    assert found.result == "failed"
    assert "free_mib" in found.fix


def test_an_agent_that_never_ran_is_a_warning(loaded: Load) -> None:
    found = examined(loaded())["agent"]
    assert found.result == "warning"
    assert "wa agent run" in found.fix


@pytest.mark.parametrize(
    ("more", "result", "word"),
    [
        ({"state": "stopped"}, "warning", "not recorded"),
        ({"updated_at": datetime.now(UTC) - timedelta(minutes=5)}, "failed", "without saying so"),
        ({"version": "0.0.1"}, "warning", "0.0.1"),
        ({"error": "the disk is full"}, "warning", "trouble"),
        ({"paused_until": datetime.now(UTC) + timedelta(minutes=5)}, "warning", "paused"),
        ({}, "ok", "runs"),
    ],
    ids=["stopped", "dead", "another version", "in trouble", "paused", "well"],
)
def test_the_agent_says_how_it_is(
    loaded: Load, home: Path, more: dict[str, object], result: str, word: str
) -> None:
    write_status(home, **{"version": __version__} | more)
    found = examined(loaded())["agent"]
    assert found.result == result
    assert word in found.what


def test_an_agent_that_does_not_start_by_itself_is_a_warning(loaded: Load) -> None:
    found = examined(loaded(), at_login=False)["autostart"]
    assert found.result == "warning"
    assert "wa agent install" in found.fix


def test_an_agent_that_hangs_is_told_from_one_that_died(loaded: Load, home: Path) -> None:
    write_status(home, updated_at=datetime.now(UTC) - timedelta(minutes=5))
    with filelock.FileLock(home / "agent.lock", thread_local=False):
        found = examined(loaded())["agent"]
    assert found.result == "failed"
    assert "agent.lock" in found.what


# The softphone and the sound


def test_a_softphone_that_does_not_run_is_a_warning_with_the_names_looked_for(loaded: Load) -> None:
    pc = FakePc([(60.0, OFF)])
    found = examined(loaded({"detection.processes": ["3CXSoftphone", "linphone"]}), pc)["softphone"]
    assert found.result == "warning"
    assert "3CXSoftphone, linphone" in found.why
    assert pc.closed


def test_a_pc_without_a_sound_system_is_one_failure(loaded: Load) -> None:
    pc = FakePc()
    pc.broken = HostUnavailable("no sound server answers", why="none runs", fix="start PipeWire")
    found = examined(loaded(), pc)["microphone"]
    assert (found.result, found.why, found.fix) == ("failed", "none runs", "start PipeWire")


def test_a_microphone_that_may_not_be_used_fails_with_the_cure_before_any_call(loaded: Load) -> None:
    pc = FakePc()
    pc.problem = HostUnavailable("this program may not use it", why="a switch is off", fix="switch it on")
    found = examined(loaded(), pc)["microphone"]
    assert (found.result, found.why, found.fix) == ("failed", "a switch is off", "switch it on")


@pytest.mark.parametrize(
    "problem", [HostUnavailable("calls cannot be recorded here"), ModuleNotFoundError("x", name="pulsectl")]
)
def test_a_system_we_cannot_listen_to_leaves_out_what_hangs_on_it(loaded: Load, problem: Exception) -> None:
    def host_of(_settings: object) -> FakePc:
        raise problem

    async def all_of_them() -> list[Finding]:
        return [finding async for finding in doctor.examine(loaded(), host_of)]

    found = {finding.check: finding for finding in asyncio.run(all_of_them())}
    assert found["signals"].result == "failed"
    assert not {"softphone", "microphone", "caller"} & set(found)
    assert "server" in found


def test_titles_that_nobody_may_read_are_no_failure(loaded: Load) -> None:
    pc = FakePc()
    pc.sees = [Way("streams", True), Way("titles", False, "Wayland shows them to nobody")]
    found = examined(loaded(), pc)
    assert (found["signals"].result, found["titles"].result) == ("ok", "not here")
    assert "Wayland" in found["titles"].why


def test_titles_alone_are_no_way_to_notice_a_call(loaded: Load) -> None:
    pc = FakePc()
    pc.sees = [Way("streams", False, "no sound server", "start it"), Way("titles", True)]
    found = examined(loaded(), pc)["signals"]
    assert (found.result, found.fix) == ("failed", "start it")
    assert "no sound server" in found.why


def test_the_caller_is_heard_by_the_best_way_there_is_and_the_better_ones_are_explained(loaded: Load) -> None:
    found = examined(loaded())["caller"]
    assert found.result == "ok"
    assert "all sound of the output" in found.what
    assert "Windows 11" in found.why


def test_a_caller_who_cannot_be_heard_fails_with_a_cure(loaded: Load) -> None:
    pc = FakePc()
    pc.hears = [Way("process-loopback", False, "too old"), Way("sox", False, "not installed", "install sox")]
    found = examined(loaded(), pc)["caller"]
    assert (found.result, found.fix) == ("failed", "install sox")
    assert "too old" in found.why
    assert "not installed" in found.why


def test_a_pc_without_microphone_fails(loaded: Load) -> None:
    pc = FakePc()
    pc.has = [device for device in pc.has if device.kind == "output"]
    assert results(examined(loaded(), pc))["microphone"] == "failed"


def test_a_microphone_of_the_settings_that_is_not_there_fails_and_those_there_are_named(loaded: Load) -> None:
    found = examined(loaded({"recording.microphone": "Desk"}))["microphone"]
    assert found.result == "failed"
    assert "Desk" in found.what
    assert "Headset microphone, Webcam" in found.why


def test_the_microphone_is_the_wanted_one_then_the_softphones_then_the_default_one() -> None:
    busy = replace(WEBCAM, in_use=True)
    assert used([HEADSET_MICROPHONE, WEBCAM], "microphone", "in-2") == WEBCAM
    assert used([HEADSET_MICROPHONE, busy], "microphone") == busy
    assert used([WEBCAM, HEADSET_MICROPHONE], "microphone") == HEADSET_MICROPHONE
    assert used([WEBCAM], "microphone") is None


# What waits


def test_what_waits_is_counted(loaded: Load, home: Path) -> None:
    spool = Spool(home / "spool")
    waiting(spool)
    assert "1 recording waits" in examined(loaded())["spool"].what
    waiting(spool)
    found = examined(loaded())["spool"]
    assert found.result == "ok"
    assert "2 recordings wait" in found.what


def test_a_refused_recording_fails_with_the_servers_words(loaded: Load, home: Path) -> None:
    spool = Spool(home / "spool")
    spool.reject(waiting(spool), "of another extension")
    found = examined(loaded())["spool"]
    assert found.result == "failed"
    assert found.why == "of another extension"
    assert "wa queue retry" in found.fix


def test_an_overdue_recording_is_a_warning(loaded: Load, home: Path) -> None:
    spool = Spool(home / "spool")
    spool.overdue(waiting(spool))
    assert [item.state for item in spool.items()] == [SpoolState.OVERDUE]
    assert results(examined(loaded()))["spool"] == "warning"


def test_the_last_call_is_told_without_the_callers_name(loaded: Load, home: Path) -> None:
    waiting(Spool(home / "spool"), party="Ada Lovelace")
    found = examined(loaded())["last_call"]
    assert "83 s" in found.what
    assert "Ada" not in str(found)


def test_looking_changes_nothing(loaded: Load, server: FakeServer, home: Path) -> None:
    server.start()
    before = sorted(home.rglob("*"))
    examined(loaded())
    assert sorted(home.rglob("*")) == before


# The command


@pytest.fixture
def wa(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "whisperagent", *arguments]
        # Whatever sound this machine has is not looked at.
        silent = environment | {"PULSE_SERVER": "unix:/nowhere", **more}
        return subprocess.run(command, env=silent, capture_output=True, text=True, check=False, timeout=60)

    return run


Wa = Callable[..., subprocess.CompletedProcess[str]]


def test_on_a_terminal_each_check_is_a_line_and_a_failed_one_has_its_cure(wa: Wa) -> None:
    done = wa("doctor")
    assert done.returncode == 1
    assert "failed    cannot reach" in done.stdout
    assert "try: check `url`" in done.stdout
    assert "failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_script_gets_an_array_with_always_the_same_keys(wa: Wa) -> None:
    done = wa("doctor", "--json", WA_SERVER__URL="nonsense")
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert {tuple(finding) for finding in document} == {("check", "result", "what", "why", "fix")}
    assert {finding["result"] for finding in document} <= {"ok", "warning", "failed", "not here"}
    assert document[0]["check"] == "config"


def test_the_bundle_tells_support_all_of_the_pc_and_nothing_of_a_call(
    loaded: Load, home: Path, tmp_path: Path
) -> None:
    spool = Spool(home / "spool")
    spool.reject(waiting(spool, party="Ada Lovelace"), "of +33 6 12 34 56 78")
    now = datetime.now(UTC)
    call = {"call_id": "0199e000-0001-7000-8000-000000000001", "started_at": now, "state": "call"}
    status = {"recorded_s": 3.0, "remote_party": "Ada Lovelace"} | call
    write_status(home, call=status, error="no room for +33 6 12 34 56 78")
    (home / "logs").mkdir()
    (home / "logs" / "agent.log").write_text(
        "2026-11-25 09:12:01,123 INFO whisperagent.agent: recording 0199e000-0001-7000-8000-000000000001"
        " remote_party=Ada Lovelace part=1\n"
        "2026-11-25 09:12:02,123 WARNING whisperagent.upload: http://127.0.0.1:3002 said +33 6 12 34 56 78\n"
    )
    here = loaded({"callcontrol.client_secret": "hush"})
    file = tmp_path / "support.zip"
    bundle.write(file, here, list(examined(here).values()))
    with zipfile.ZipFile(file) as archive:
        packed = {name: archive.read(name).decode() for name in archive.namelist()}
    assert set(packed) == {"findings.json", "versions.json", "settings.json", "agent.json", "agent.log"}
    everything = "".join(packed.values())
    for secret in ("Ada", "12 34 56", "hush"):
        assert secret not in everything
    assert "2026-11-25 09:12:01,123 INFO" in packed["agent.log"]
    assert "recording 0199e000-0001-7000-8000-000000000001 remote_party=••• part=1" in packed["agent.log"]
    assert "http://127.0.0.1:3002 said +33•••••678" in packed["agent.log"]
    assert json.loads(packed["agent.json"])["call"]["recorded_s"] == 3.0
    assert "2026-01-05 at" in packed["findings.json"]
    assert json.loads(packed["settings.json"])["agent.extension"] == "201"
    assert __version__ in packed["versions.json"]


def test_the_bundle_of_a_pc_with_a_broken_config_is_made_too(wa: Wa, home: Path, tmp_path: Path) -> None:
    (home / "config.toml").write_text("[server\n")
    done = wa("doctor", "--bundle", str(tmp_path / "support.zip"))
    assert done.returncode == 1
    assert "support.zip" in done.stderr
    with zipfile.ZipFile(tmp_path / "support.zip") as archive:
        assert set(archive.namelist()) == {"findings.json", "versions.json"}


def test_a_bundle_that_cannot_be_written_is_one_clear_error(wa: Wa, tmp_path: Path) -> None:
    done = wa("doctor", "--bundle", str(tmp_path / "no" / "support.zip"))
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
