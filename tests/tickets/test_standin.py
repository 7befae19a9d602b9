"""The stand-in: as strict as the vendor's document, and honest about what it is."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from tests.tickets.conftest import StandIn
from whisperagent.errors import UsageError
from whisperserver.tickets import standin
from whisperserver.tickets.desk import Desk

GOOD: dict[str, Any] = {
    "clientId": 1,
    "ticketFormId": 1,
    "subject": "imprimante",
    "status": "1000",
    "description": {"public": False, "body": "<script>alert(1)</script>"},
    "tags": ["rec-1"],
}
SCHEMA = json.loads(Path(__file__).with_name("new_ticket.schema.json").read_text("utf-8"))


@pytest.fixture
def api(stand_in: StandIn) -> httpx.Client:
    form = {
        "grant_type": "client_credentials",
        "client_id": standin.CLIENT_ID,
        "client_secret": standin.CLIENT_SECRET,
    }
    token = httpx.post(f"{stand_in.url}/ws/oauth/token", data=form).json()["access_token"]
    return httpx.Client(base_url=stand_in.url, headers={"Authorization": f"Bearer {token}"})


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != field}


WRONG = {
    "no clientId": without("clientId"),
    "no ticketFormId": without("ticketFormId"),
    "no subject": without("subject"),
    "no status": without("status"),
    "status as a number": GOOD | {"status": 1000},
    "priority CRITICAL": GOOD | {"priority": "CRITICAL"},
    "a subject of 201 characters": GOOD | {"subject": "x" * 201},
    "a description as text": GOOD | {"description": "text"},
    "a description that does not say whether it is public": GOOD | {"description": {"body": "text"}},
    "a client id beyond 32 bits": GOOD | {"clientId": 2**31},
    "a field that does not exist": GOOD | {"external_id": "1"},
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_a_body_that_the_vendors_document_forbids_is_refused(api: httpx.Client, body: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, SCHEMA)
    answer = api.post("/v2/ticketing/ticket", json=body)
    assert answer.status_code == 400
    assert answer.json()["resultCode"] == "VALIDATION"


def test_a_good_body_becomes_a_ticket_that_can_be_read(api: httpx.Client) -> None:
    jsonschema.validate(GOOD, SCHEMA)
    made = api.post("/v2/ticketing/ticket", json=GOOD).json()
    assert made["status"]["statusId"] == 1000
    assert api.get(f"/v2/ticketing/ticket/{made['id']}").json() == made
    assert api.get("/v2/ticketing/ticket/9").status_code == 404


def test_nobody_without_a_token_makes_a_ticket(stand_in: StandIn) -> None:
    assert httpx.post(f"{stand_in.url}/v2/ticketing/ticket", json=GOOD).status_code == 400
    bad = {"Authorization": "Bearer nonsense"}
    assert httpx.post(f"{stand_in.url}/v2/ticketing/ticket", json=GOOD, headers=bad).status_code == 401
    assert stand_in.desk.tickets == []


def test_it_says_everywhere_that_it_is_a_stand_in(stand_in: StandIn, api: httpx.Client) -> None:
    for answer in (
        httpx.get(stand_in.url),
        httpx.get(stand_in.url, headers={"Accept": "text/html"}),
        api.get("/v2/ticketing/ticket/9"),
    ):
        assert "not NinjaOne" in answer.text


def test_its_page_shows_tickets_as_text(stand_in: StandIn, api: httpx.Client) -> None:
    number = api.post("/v2/ticketing/ticket", json=GOOD).json()["id"]
    page = httpx.get(stand_in.url, headers={"Accept": "text/html"})
    assert "&lt;script&gt;" in page.text
    assert "<script>" not in page.text
    assert f'id="/ticketing/ticket/{number}"' in page.text
    assert httpx.get(stand_in.url).json()["tickets"][0]["id"] == number


def test_tickets_in_a_file_survive_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "tickets.json"
    made = Desk(file).create(json.dumps(GOOD).encode())
    assert Desk(file).ticket(made["id"]) == made
    assert "not NinjaOne" in json.loads(file.read_text("utf-8"))["what"]


def test_a_taken_port_is_one_clear_error(stand_in: StandIn) -> None:
    with pytest.raises(UsageError, match="cannot listen"):
        standin.serve(int(stand_in.url.rpartition(":")[2]))


@pytest.mark.parametrize("content", ["not json", "[]", "{}"])
def test_a_file_of_something_else_is_one_clear_error_and_stays_as_it_was(
    tmp_path: Path, content: str
) -> None:
    file = tmp_path / "letters.json"
    file.write_text(content, "utf-8")
    with pytest.raises(UsageError, match="cannot keep tickets in"):
        standin.serve(0, file)
    assert file.read_text("utf-8") == content


SERVE = """
import pathlib, sys
from whisperserver.tickets import standin
standin.serve(0, pathlib.Path(sys.argv[1]))
"""


def test_it_serves_until_it_is_stopped_and_says_how_to_use_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(tmp_path / "tickets.json")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert "a stand-in for NinjaOne" in first
        assert httpx.get(first.split()[0]).json()["tickets"] == []
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert "WA_TICKETS__CLIENT_ID=stand-in" in rest
