"""`wa agent` and `wa queue`, as a person and a script use them: programs of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.agent.fake_server import FakeServer
from tests.agent.processes import AgentProcess
from whisperagent import sealed, wire
from whisperagent.spool import Entry, Item, Spool
from whisperagent.wire import AgentStatus, CallMetadata

Wa = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def wa(environment: dict[str, str]) -> Wa:
    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "whisperagent", *arguments]
        return subprocess.run(
            command, env=environment | more, capture_output=True, text=True, check=False, timeout=60
        )

    return run


@pytest.fixture
def spool(home: Path) -> Spool:
    return Spool(home / "spool")


def waiting(spool: Spool, call_id: str = "", party: str = "Ada") -> Item:
    metadata = CallMetadata(
        call_id=call_id or wire.new_call_id(),
        extension="201",
        started_at=datetime(2026, 1, 5, 9, 0, tzinfo=UTC),
        duration_s=83.0,
        remote_party=party,
    )
    file = spool.create(metadata)
    sealed.Writer(file, [X25519PrivateKey.generate().public_key()], bytes(16)).finish()
    file.close()
    return spool.queue(Entry(metadata=metadata))


def write_status(home: Path, **more: object) -> None:
    now = datetime.now(UTC)
    status = AgentStatus(
        pid=os.getpid(),
        version="0.1.0",
        state="idle",
        started_at=now,
        updated_at=now,
        extension="201",
        host="simulated",
        server_url="http://127.0.0.1:3002",
    )
    (home / "agent.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(status, **more)))


def test_a_call_from_the_command_line_to_the_server(wa: Wa, server: FakeServer, call: Path) -> None:
    server.start()
    done = wa("agent", "run", "--headless", "--simulate", str(call), "--speed", "8", "--once")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    lines = ["a call begins", "recording", "sealed", "queued", "on the server"]
    assert [words in line for words, line in zip(lines, done.stderr.splitlines(), strict=True)] == [True] * 5
    assert len(server.stored) == 1


def test_a_script_reads_one_json_object_a_line(
    environment: dict[str, str], server: FakeServer, call: Path
) -> None:
    server.start()
    with AgentProcess(environment, call, 20.0, "--once") as agent:
        assert agent.process.wait(40) == 0
        lines = [json.loads(line) for line in agent.output.read_text("utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["detected", "recording", "sealed", "queued", "uploaded"]
    assert len({line["call_id"] for line in lines}) == 1
    assert all(datetime.fromisoformat(line["at"]).tzinfo for line in lines)


def test_without_an_extension_the_error_says_which_command_sets_it(wa: Wa, call: Path) -> None:
    done = wa("agent", "run", "--headless", "--simulate", str(call), WA_AGENT__EXTENSION="")
    assert done.returncode == 2
    assert "wa config set agent.extension" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be without a sound server")
def test_a_pc_that_cannot_hear_is_one_clear_error(wa: Wa) -> None:
    done = wa("agent", "run", "--headless", PULSE_SERVER="unix:/nowhere")
    assert done.returncode == 1
    assert "no sound server" in done.stderr
    assert "pipewire" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_status_of_a_pc_without_an_agent_is_1(wa: Wa) -> None:
    done = wa("agent", "status")
    assert (done.returncode, done.stdout) == (1, "")
    assert "wa agent run" in done.stderr


def test_the_status_of_a_running_agent_is_0(wa: Wa, home: Path) -> None:
    write_status(home, server_connected=True, calls_today=3)
    done = wa("agent", "status")
    assert done.returncode == 0
    assert "waits for a call" in done.stdout
    assert "calls today  3" in done.stdout


def test_the_status_of_a_pc_without_a_server_says_so(wa: Wa, home: Path) -> None:
    write_status(home, server_url="")
    assert "none is named: calls stay on this PC" in wa("agent", "status").stdout


def test_an_agent_that_died_is_called_dead(wa: Wa, home: Path) -> None:
    write_status(home, updated_at=datetime.now(UTC) - timedelta(minutes=1))
    done = wa("agent", "status")
    assert done.returncode == 1
    assert "dead" in done.stdout


def test_the_status_as_json_is_one_document(wa: Wa, home: Path) -> None:
    write_status(home)
    document = json.loads(wa("agent", "status", "--json").stdout)
    assert (document["running"], document["status"]["extension"]) == (True, "201")


def test_a_damaged_status_is_an_error_and_no_traceback(wa: Wa, home: Path) -> None:
    (home / "agent.json").write_bytes(b"{")
    done = wa("agent", "status")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_the_status_imports_nothing_heavy(environment: dict[str, str], home: Path) -> None:
    write_status(home)
    program = (
        "import sys; sys.argv = ['wa', 'agent', 'status']\n"
        "from whisperagent.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    heavy = {"asyncio", "httpx", "textual", "numpy", "pydantic", "cryptography", "websockets", "litestar"}
    assert not heavy & set(done.stderr.split())


def test_an_empty_queue_says_so(wa: Wa) -> None:
    done = wa("queue", "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing" in done.stderr


def test_the_queue_is_a_table_and_a_document(wa: Wa, spool: Spool) -> None:
    item = waiting(spool)
    spool.failed(item, "cannot reach the server", datetime.now(UTC))
    table = wa("queue", "list").stdout
    assert item.call_id in table
    assert "cannot reach the server" in table
    [document] = json.loads(wa("queue", "list", "--json").stdout)
    assert (document["call_id"], document["state"], document["attempts"]) == (item.call_id, "queued", 1)


def test_one_call_is_shown_by_the_beginning_of_its_id(wa: Wa, spool: Spool) -> None:
    item = waiting(spool)
    shown = wa("queue", "show", item.call_id[:6]).stdout
    assert item.call_id in shown
    assert "1:23" in shown
    assert "Ada" in shown


def test_an_unknown_call_is_an_error_with_a_way_out(wa: Wa) -> None:
    done = wa("queue", "show", "ffff")
    assert done.returncode == 2
    assert "wa queue list" in done.stderr


def test_a_beginning_that_two_calls_share_is_an_error(wa: Wa, spool: Spool) -> None:
    waiting(spool, "0199e000-0001-7000-8000-000000000001")
    waiting(spool, "0199e000-0001-7000-8000-000000000002")
    done = wa("queue", "retry", "0199e")
    assert done.returncode == 2
    assert "2 calls" in done.stderr


def test_what_a_caller_or_a_server_says_is_never_a_command_to_the_terminal(wa: Wa, spool: Spool) -> None:
    item = waiting(spool, party="\x1b]0;owned\x07Ada")
    spool.failed(item, "\x1b[2Jno", datetime.now(UTC))
    assert not {"\x1b", "\x07"} & set(wa("queue", "list").stdout + wa("queue", "show", item.call_id).stdout)


def test_a_home_that_cannot_be_is_one_clear_error(wa: Wa, tmp_path: Path, call: Path) -> None:
    (tmp_path / "home" / "spool").write_text("not a folder")
    for arguments in (["queue", "list"], ["agent", "run", "--headless", "--simulate", str(call)]):
        done = wa(*arguments)
        assert done.returncode == 2
        assert "WA_HOME" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_rejected_call_is_sent_again_by_retry(wa: Wa, spool: Spool) -> None:
    spool.reject(waiting(spool), "no")
    done = wa("queue", "retry", "--all")
    assert done.returncode == 0
    assert "1 recording is sent again" in done.stderr
    assert [item.state for item in spool.items()] == ["queued"]


@pytest.mark.parametrize("arguments", [[], ["--all", "0000"]])
def test_retry_wants_calls_or_all_of_them(wa: Wa, arguments: list[str]) -> None:
    assert wa("queue", "retry", *arguments).returncode == 2
