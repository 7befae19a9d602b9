"""The API as its clients meet it: real HTTP, real SQLite, real sealed recordings."""

import base64
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.server.conftest import STARTED_AT, Server, later, problem, running
from tests.server.ingest_fixtures import noise
from whisperagent import settings, wire
from whisperagent.wire import CallState
from whisperserver import problems
from whisperserver.serve import listening

# The list


def ids(http: httpx.Client, **query: Any) -> list[str]:
    answer = http.get(wire.CALLS, params=query)
    assert answer.status_code == 200, answer.text
    return [item.call_id for item in msgspec.json.decode(answer.content, type=wire.CallPage).items]


def test_calls_are_listed_newest_first(server: Server, http: httpx.Client) -> None:
    old = server.received(started_at=later(0))
    new = server.received(started_at=later(10))
    assert ids(http) == [new, old]


def test_pages_show_every_call_once_even_of_equal_times(server: Server, http: httpx.Client) -> None:
    made = {server.received(noise(2000), started_at=STARTED_AT) for _number in range(7)}
    seen: list[str] = []
    cursor = ""
    while True:
        page = msgspec.json.decode(
            http.get(wire.CALLS, params={"limit": 3, "cursor": cursor}).content, type=wire.CallPage
        )
        seen += [item.call_id for item in page.items]
        if not (cursor := page.next_cursor):
            break
    assert seen == sorted(made, reverse=True)


def test_the_list_is_narrowed_by_state_extension_other_party_and_time(
    server: Server, http: httpx.Client
) -> None:
    waiting = server.received(extension="201", remote_party="+33 6 12 34 56 78", started_at=later(0))
    read = server.transcribed(extension="202", remote_party="Mme 100%", started_at=later(60))
    assert ids(http, state="transcribed") == [read]
    assert ids(http, state="received,transcribed") == [read, waiting]
    assert ids(http, state=["received", "transcribed"]) == [read, waiting]
    assert ids(http, state="failed") == []
    assert ids(http, extension="202") == [read]
    assert ids(http, remote_party="12 34") == [waiting]
    assert ids(http, remote_party="100%") == [read]
    assert ids(http, remote_party="1_0") == []
    assert ids(http, since=later(60).isoformat()) == [read]
    assert ids(http, until=later(60).isoformat()) == [waiting]
    # 10:00 in Paris is 09:00 UTC; without a zone it is UTC.
    assert ids(http, since="2026-11-25T10:30:00+01:00") == [read]
    assert ids(http, since="2026-11-25T10:30:00") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"since": "yesterday"}, "since"),
        ({"state": "asleep"}, "asleep"),
        ({"cursor": "page2"}, "cursor"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "moment"),
        ({"q": "a" * 501}, "q"),
    ],
)
def test_a_filter_that_cannot_be_understood_is_named(
    asking: httpx.Client, query: dict[str, str], field: str
) -> None:
    said = problem(asking.get(wire.CALLS, params=query), 400, "bad-request")
    assert field in f"{said.title} {said.detail}"


# The search


@pytest.mark.parametrize(
    "words", ["telephone", "TÉLÉPHONE", "téléph", "ecran telephone", "Lefèvre", "lefevre"]
)
def test_words_are_found_whatever_their_accents_and_case(
    server: Server, http: httpx.Client, words: str
) -> None:
    found = server.transcribed("Mon téléphone a l'écran noir.", remote_party="Madame Lefèvre")
    server.transcribed("Mon imprimante fume.", remote_party="Monsieur Roux")
    assert ids(http, q=words) == [found]


@pytest.mark.parametrize(
    "words", ['"', "OR", "noir NOT écran", "text:noir*", "(", "^", "''; --", "\x00", "écran -"]
)
def test_what_is_searched_for_is_words_and_no_language(http: httpx.Client, words: str) -> None:
    assert ids(http, q=words) == []


def test_a_correction_is_found_and_what_it_replaced_is_not(server: Server, http: httpx.Client) -> None:
    call_id = server.transcribed("Mon imprimante fume.")
    edited(http, call_id, 1, "Mon serveur fume.")
    assert ids(http, q="serveur") == [call_id]
    assert ids(http, q="imprimante") == []


def test_a_hit_shows_the_passage(server: Server, http: httpx.Client) -> None:
    server.transcribed("Bonjour.", "Bonjour.", "Le café est renversé sur le clavier.")
    [item] = http.get(wire.CALLS, params={"q": "cafe"}).json()["items"]
    assert "café est renversé" in item["snippet"]


def test_a_begun_word_of_one_letter_shows_the_passage_of_each_call(
    server: Server, http: httpx.Client
) -> None:
    first = server.transcribed("Bonjour.", "Le zèbre est là.", started_at=later(0))
    server.transcribed("Bonjour.", "Rien.", started_at=later(1))
    last = server.transcribed("Bonjour.", "Encore un zinc.", started_at=later(2))
    items = http.get(wire.CALLS, params={"q": "z", "limit": 2}).json()["items"]
    assert [(item["call_id"], "z" in item["snippet"]) for item in items] == [(last, True), (first, True)]


# One call


def test_a_transcribed_call_comes_with_the_draft_of_its_ticket(server: Server) -> None:
    call = server.call(server.transcribed("Mon imprimante ne marche plus.", remote_party="+33 6 12 34 56 78"))
    assert call.draft is not None
    assert call.draft.subject == "[Appel] +33 6 12 34 56 78 - Mon imprimante ne marche plus."
    assert call.transcript is not None
    assert call.transcript.segments[0].speaker == "caller"
    assert call.ticket is None


def test_there_is_no_draft_before_the_transcript_nor_without_a_ticket_system(
    server: Server, tmp_path: Path
) -> None:
    assert server.call(server.received()).draft is None
    with running(tmp_path / "other", tickets=settings.Tickets(sink="none")) as without:
        assert without.call(without.transcribed()).draft is None


def test_a_call_that_never_was_is_not_found(http: httpx.Client) -> None:
    for path in ("", "/transcript", "/audio"):
        problem(http.get(f"{wire.CALLS}/{wire.new_call_id()}{path}"), 404, "not-found")
    problem(http.get(f"{wire.TRANSCRIPTION_STATUS}/nonsense"), 404, "not-found")


# The transcript as a file


@pytest.fixture
def spoken(shared: Server) -> str:
    """A call in which markup is said."""
    return shared.transcribed(
        "Bonjour <b>vous</b> & *moi*\n\n2\n00:00:00,000 --> 00:00:09,000",
        "D'accord.",
        agent_name="Léa",
        remote_party="Mme [Roux](x)",
    )


TEXT = """\
[00:00:00] Correspondant : Bonjour <b>vous</b> & *moi* 2 00:00:00,000 --> 00:00:09,000
[00:00:02] Technicien : D'accord.
"""
SRT = """\
1
00:00:00,000 --> 00:00:01,500
Correspondant : Bonjour <b>vous</b> & *moi* 2 00:00:00,000 --> 00:00:09,000

2
00:00:02,000 --> 00:00:03,500
Technicien : D'accord.
"""
VTT = """\
WEBVTT

00:00:00.000 --> 00:00:01.500
<v Correspondant>Bonjour &lt;b&gt;vous&lt;/b&gt; &amp; *moi* 2 00:00:00,000 --&gt; 00:00:09,000

00:00:02.000 --> 00:00:03.500
<v Technicien>D'accord.
"""
MARKDOWN = """
- Poste : 201 Léa
- Correspondant : Mme \\[Roux\\]\\(x\\)

**[00:00:00]** Correspondant : Bonjour \\<b\\>vous\\</b\\> & \\*moi\\* 2 00:00:00,000 \\-\\-\\> 00:00:09,000

**[00:00:02]** Technicien : D'accord.
"""


@pytest.mark.parametrize(
    ("form", "kind", "content"),
    [
        ("txt", "text/plain; charset=utf-8", TEXT),
        ("srt", "application/x-subrip", SRT),
        ("vtt", "text/vtt; charset=utf-8", VTT),
        ("md", "text/markdown; charset=utf-8", MARKDOWN),
    ],
)
def test_a_transcript_is_given_as_a_file_in_which_words_stay_words(
    asking: httpx.Client, spoken: str, form: str, kind: str, content: str
) -> None:
    answer = asking.get(f"{wire.CALLS}/{spoken}/transcript", params={"format": form})
    assert answer.headers["content-type"] == kind
    assert answer.headers["content-disposition"] == f'inline; filename="{spoken}.{form}"'
    assert answer.content.decode("utf-8").endswith(content)


def test_a_transcript_is_json_unless_asked_otherwise(asking: httpx.Client, spoken: str) -> None:
    answer = asking.get(f"{wire.CALLS}/{spoken}/transcript")
    transcript = msgspec.json.decode(answer.content, type=wire.Transcript)
    assert [segment.text for segment in transcript.segments][1] == "D'accord."
    problem(asking.get(f"{wire.CALLS}/{spoken}/transcript?format=pdf"), 400, "bad-request")


def test_a_call_that_waits_has_no_transcript(server: Server, http: httpx.Client) -> None:
    problem(http.get(f"{wire.CALLS}/{server.received()}/transcript"), 404, "not-found")


# Corrections


def edited(http: httpx.Client, call_id: str, version: int, text: str) -> httpx.Response:
    body = {"version": version, "segments": [{"id": 0, "text": text}]}
    return http.patch(f"{wire.CALLS}/{call_id}/transcript", json=body)


def test_a_correction_makes_a_new_version_and_is_written_down(server: Server, http: httpx.Client) -> None:
    call_id = server.transcribed()
    transcript = msgspec.json.decode(edited(http, call_id, 1, "Rien.").content, type=wire.Transcript)
    assert transcript.version == 2
    assert transcript.segments[0].text == "Rien."
    assert transcript.segments[0].words == ()
    assert server.call(call_id).summary.snippet.startswith("Rien.")
    assert ("201", "edited", call_id) in server.rows("SELECT who, action, call_id FROM audit")


def test_the_second_of_two_corrections_of_one_version_is_refused(server: Server, http: httpx.Client) -> None:
    call_id = server.transcribed()
    assert edited(http, call_id, 1, "Le premier.").status_code == 200
    said = problem(edited(http, call_id, 1, "Le second."), 409, "conflict")
    assert said.detail == "it is at version 2, you read 1"
    assert said.fix == "load the call again"
    transcript = server.call(call_id).transcript
    assert transcript is not None
    assert transcript.segments[0].text == "Le premier."


def test_a_segment_is_removed_by_an_empty_text_and_given_to_the_other_speaker(
    server: Server, http: httpx.Client
) -> None:
    call_id = server.transcribed("Un.", "Deux.")
    body = {"version": 1, "segments": [{"id": 0, "text": ""}, {"id": 1, "speaker": "caller"}]}
    http.patch(f"{wire.CALLS}/{call_id}/transcript", json=body)
    transcript = server.call(call_id).transcript
    assert transcript is not None
    assert [(one.id, one.speaker, one.text) for one in transcript.segments] == [(1, "caller", "Deux.")]


def test_a_correction_of_no_segment_is_refused(server: Server, http: httpx.Client) -> None:
    call_id = server.transcribed()
    body = {"version": 1, "segments": [{"id": 99, "text": "?"}]}
    problem(http.patch(f"{wire.CALLS}/{call_id}/transcript", json=body), 404, "not-found")


# Reviews


def decided(http: httpx.Client, call_id: str, decision: str = "approved", **more: Any) -> httpx.Response:
    body = {"version": 1, "decision": decision, **more}
    return http.post(f"{wire.CALLS}/{call_id}/review", json=body)


def test_an_approved_call_has_its_ticket_on_the_way(server: Server, http: httpx.Client) -> None:
    call_id = server.transcribed()
    call = msgspec.json.decode(decided(http, call_id).content, type=wire.Call)
    assert call.summary.state is CallState.APPROVED
    assert call.review is not None
    assert call.review.reviewer == "201"
    assert call.ticket is not None
    assert ", relue par 201 à " in call.ticket.draft.body
    assert server.rows("SELECT task_key, status FROM queue_task WHERE queue = 'ticket'") == [
        (f"ticket:{call_id}", "pending")
    ]


def test_a_ticket_says_what_the_reviewer_wrote(server: Server, http: httpx.Client) -> None:
    call_id = server.transcribed()
    draft = {"subject": "Imprimante", "body": "En panne.", "priority": "HIGH", "tags": ["urgent"]}
    call = msgspec.json.decode(decided(http, call_id, ticket=draft).content, type=wire.Call)
    assert call.ticket is not None
    assert call.ticket.draft == msgspec.convert(draft, wire.TicketDraft)


def test_a_review_that_is_sent_twice_makes_one_ticket(server: Server, http: httpx.Client) -> None:
    call_id = server.transcribed()
    first, second = decided(http, call_id), decided(http, call_id)
    assert first.status_code == second.status_code == 200
    assert first.json()["ticket"] == second.json()["ticket"]
    assert server.rows("SELECT count(*) FROM tickets") == [(1,)]
    assert server.rows("SELECT count(*) FROM queue_task WHERE queue = 'ticket'") == [(1,)]


def test_a_review_of_an_older_version_is_refused(server: Server, http: httpx.Client) -> None:
    call_id = server.transcribed()
    edited(http, call_id, 1, "Autre chose.")
    problem(decided(http, call_id), 409, "conflict")
    assert server.call(call_id).summary.state is CallState.TRANSCRIBED


def test_a_rejected_call_gets_no_ticket_and_is_not_approved_afterwards(
    server: Server, http: httpx.Client
) -> None:
    call_id = server.transcribed()
    call = msgspec.json.decode(decided(http, call_id, "rejected", note="privé").content, type=wire.Call)
    assert call.summary.state is CallState.REJECTED
    assert call.review is not None
    assert call.review.note == "privé"
    assert call.ticket is None
    problem(decided(http, call_id), 409, "conflict")
    problem(edited(http, call_id, 1, "Trop tard."), 409, "conflict")


def test_what_is_not_transcribed_cannot_be_decided_on(server: Server, http: httpx.Client) -> None:
    problem(decided(http, server.received()), 409, "conflict")


def test_without_a_ticket_system_an_approved_call_is_only_approved(tmp_path: Path) -> None:
    with running(tmp_path / "none", tickets=settings.Tickets(sink="none")) as server, server.http() as http:
        call_id = server.transcribed()
        draft = {"subject": "Nobody takes it"}
        call = msgspec.json.decode(decided(http, call_id, ticket=draft).content, type=wire.Call)
        assert call.summary.state is CallState.APPROVED
        assert call.ticket is None


# The sound


def test_the_sound_is_a_wav_of_what_was_recorded_and_who_listens_is_written_down(
    server: Server, http: httpx.Client
) -> None:
    pcm = noise(1_200_000)
    call_id = server.received(pcm)
    answer = http.get(f"{wire.CALLS}/{call_id}/audio")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.content.startswith(b"RIFF")
    assert answer.content.endswith(pcm)
    assert ("201", "listened", call_id) in server.rows("SELECT who, action, call_id FROM audit")


@pytest.mark.parametrize(
    ("asked", "piece"),
    [
        ("bytes=0-43", slice(0, 44)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-500", slice(-500, None)),
        ("bytes=262100-262200", slice(262100, 262201)),
        ("bytes=64000-99999999999", slice(64000, None)),
    ],
)
def test_a_player_gets_the_piece_that_it_asks_for(
    shared: Server, asking: httpx.Client, asked: str, piece: slice
) -> None:
    call_id = shared.received(noise(300_000))
    whole = asking.get(f"{wire.CALLS}/{call_id}/audio").content
    answer = asking.get(f"{wire.CALLS}/{call_id}/audio", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == whole[piece]
    begin, end, _step = piece.indices(len(whole))
    assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{len(whole)}"


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=-", "chapters=1-2", "bytes=0-1,5-9", "nonsense"])
def test_a_range_that_means_nothing_is_the_whole(shared: Server, asking: httpx.Client, asked: str) -> None:
    call_id = shared.received()
    assert asking.get(f"{wire.CALLS}/{call_id}/audio", headers={"Range": asked}).status_code == 200


def test_a_piece_of_another_file_is_the_whole_of_this_one(shared: Server, asking: httpx.Client) -> None:
    headers = {"Range": "bytes=0-43", "If-Range": '"another"'}
    assert asking.get(f"{wire.CALLS}/{shared.received()}/audio", headers=headers).status_code == 200


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
def test_a_range_after_the_end_says_where_the_end_is(
    shared: Server, asking: httpx.Client, asked: str
) -> None:
    answer = asking.get(f"{wire.CALLS}/{shared.received(noise(4000))}/audio", headers={"Range": asked})
    problem(answer, 416, "no-such-range")
    assert answer.headers["content-range"] == "bytes */4044"


def test_a_damaged_recording_is_not_played(server: Server, http: httpx.Client) -> None:
    call_id = server.received(noise(200_000))
    path = server.services.recordings.root / call_id / "1.srec"
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    problem(http.get(f"{wire.CALLS}/{call_id}/audio"), 500, "unreadable")
    path.unlink()
    problem(http.get(f"{wire.CALLS}/{call_id}/audio"), 500, "unreadable")


# Erasing


CANARY = "Zygomatique"


def where_it_is_said(server: Server) -> list[Path]:
    files = [path for path in server.loaded.paths.home.rglob("*") if path.is_file()]
    return [path for path in files if CANARY.lower().encode() in path.read_bytes().lower()]


def test_an_erased_call_is_gone_from_every_file_and_does_not_come_back(
    server: Server, http: httpx.Client
) -> None:
    call_id = wire.new_call_id()
    recording = server.seal(noise(64_000), call_id)
    said = {"recording": recording, "remote_party": CANARY, "agent_name": CANARY}
    assert server.upload(call_id, **said).status_code == 202
    server.transcribe(call_id, f"{CANARY} un.", f"{CANARY} deux.")
    edited(http, call_id, 1, f"{CANARY} trois.")
    http.post(f"{wire.CALLS}/{call_id}/review", json={"version": 2, "decision": "approved", "note": CANARY})
    assert ids(http, q=CANARY) == [call_id]
    assert where_it_is_said(server)

    assert http.delete(f"{wire.CALLS}/{call_id}").status_code == 204

    assert ids(http) == ids(http, q=CANARY) == []
    for path in ("", "/audio", "/transcript"):
        problem(http.get(f"{wire.CALLS}/{call_id}{path}"), 410, "gone")
    problem(server.upload(call_id, **said), 410, "gone")
    assert not list(server.services.recordings.root.rglob("*.srec"))
    assert where_it_is_said(server) == []
    assert ("201", "erased", call_id) in server.rows("SELECT who, action, call_id FROM audit")


def test_erasing_again_is_answered_again_and_erasing_nothing_is_not(
    server: Server, http: httpx.Client
) -> None:
    call_id = server.received()
    assert [http.delete(f"{wire.CALLS}/{call_id}").status_code for _time in range(2)] == [204, 204]
    problem(http.delete(f"{wire.CALLS}/{wire.new_call_id()}"), 404, "not-found")
    assert server.rows("SELECT count(*) FROM audit WHERE action = 'erased'") == [(1,)]


def test_a_call_that_is_erased_by_many_at_once_is_erased_once(server: Server, http: httpx.Client) -> None:
    call_id = server.received()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _number: http.delete(f"{wire.CALLS}/{call_id}"), range(8)))
    assert {answer.status_code for answer in answers} == {204}
    assert server.rows("SELECT count(*) FROM audit WHERE action = 'erased'") == [(1,)]


def test_an_erasure_that_was_cut_off_is_finished_by_asking_again(server: Server, http: httpx.Client) -> None:
    call_id = server.received()
    server.services.recordings.erase(f"{call_id}/1.srec")  # killed here, before the rows
    assert http.delete(f"{wire.CALLS}/{call_id}").status_code == 204
    problem(http.get(f"{wire.CALLS}/{call_id}"), 410, "gone")


# Status, key, health


def test_the_status_says_the_place_in_the_queue_and_that_nobody_works(
    server: Server, http: httpx.Client
) -> None:
    first, second = server.received(), server.received()
    status = http.get(f"{wire.TRANSCRIPTION_STATUS}/{second}").json()
    assert (status["state"], status["position"]) == ("received", 2)
    assert status["error"] == "no worker is running"
    server.transcribe(first, "Bonjour.")
    status = http.get(f"{wire.TRANSCRIPTION_STATUS}/{first}").json()
    assert (status["state"], status["position"], status["progress"]) == ("transcribed", 0, 1.0)
    assert http.get(status["transcript_url"]).json()["segments"][0]["text"] == "Bonjour."


def test_the_server_key_is_the_one_that_opens_recordings(server: Server, http: httpx.Client) -> None:
    shown = msgspec.json.decode(http.get(wire.SERVER_KEY).content, type=wire.ServerKey)
    assert base64.b64decode(shown.public_key) == server.services.key.public_key().public_bytes_raw()


def test_health_needs_no_credential_and_tells_uploads_from_speech(server: Server) -> None:
    assert httpx.get(f"{server.url}{wire.LIVE}").json() == {"status": "alive"}
    ready = httpx.get(f"{server.url}{wire.READY}")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready",
        "database": "ready",
        "storage": "ready",
        "speech": "no worker",
    }


def test_a_full_disk_is_not_ready_and_takes_no_upload(tmp_path: Path) -> None:
    with running(tmp_path / "full", serve=settings.Serve(free_mib=1 << 30)) as server:
        ready = httpx.get(f"{server.url}{wire.READY}")
        assert (ready.status_code, ready.json()["storage"]) == (503, "full")
        problem(server.upload(wire.new_call_id()), 507, "no-room")


# Errors


def test_the_protocols_own_errors_are_problems_too(asking: httpx.Client) -> None:
    problem(asking.get("/nowhere"), 404, "not-found")
    assert "GET" in asking.put(wire.CALLS).headers["allow"]
    problem(asking.put(wire.CALLS), 405, "not-allowed")
    problem(asking.post(f"{wire.CALLS}/x/review", content=b"x" * (1 << 20) + b"x"), 413, "too-large")
    said = problem(
        asking.post(f"{wire.CALLS}/x/review", json={"version": 1, "decision": "maybe"}), 400, "bad-request"
    )
    assert said.detail == "`decision`: Invalid enum value 'maybe'"
    said = problem(asking.post(f"{wire.CALLS}/x/review"), 400, "bad-request")
    assert said.detail == "the body: is missing"


def test_a_fault_of_the_server_shows_nothing_of_its_inside(server: Server, http: httpx.Client) -> None:
    call_id = server.transcribed()
    server.change("UPDATE transcripts SET segments = '{\"Zygomatique\":'")
    answer = http.get(f"{wire.CALLS}/{call_id}")
    said = problem(answer, 500, "failure")
    assert said.fix == "its log says more"
    assert "segments" not in answer.text
    assert "msgspec" not in answer.text


def test_a_database_that_is_full_is_a_reason_to_come_back(server: Server, http: httpx.Client) -> None:
    call_id = server.transcribed()

    async def fill(session: AsyncSession) -> None:
        await session.execute(text("PRAGMA max_page_count = 1"))

    server.write(fill)
    answer = edited(http, call_id, 1, "a" * 9000)
    problem(answer, 503, "busy")
    assert answer.headers["retry-after"] == "5"


def test_every_answer_is_protected(shared: Server, asking: httpx.Client) -> None:
    for answer in (asking.get(wire.CALLS), asking.get("/nowhere"), httpx.get(f"{shared.url}{wire.CALLS}")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_a_peer_that_fell_asleep_is_noticed() -> None:
    """Its upload would stay half done, and its file open, for as long as the server runs."""
    with (
        listening("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle, every, times = (
            accepted.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
    assert idle + every * times <= 180


# What is written about it


def test_the_documentation_knows_every_route_and_every_kind_of_problem(asking: httpx.Client) -> None:
    written = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
    kinds = {name for _status, name in problems.KINDS.values()} | set(problems.OF_THE_PROTOCOL.values())
    assert [kind for kind in kinds | {"busy", "failure"} if f"`{kind}`" not in written] == []
    routes = [path for path in asking.get("/schema/openapi.json").json()["paths"] if path != "/schema"]
    assert [path for path in [*routes, wire.REVIEW_CHANNEL] if path not in written] == []
    figures = re.findall(r"^# TYPE (whisperagent_\w+)", asking.get(wire.METRICS).text, re.MULTILINE)
    assert [name for name in figures if name.removesuffix("_created") not in written] == []


def test_the_architecture_knows_every_module() -> None:
    root = Path(__file__).parents[2]
    written = (root / "docs" / "architecture.md").read_text("utf-8")
    package = root / "src" / "whisperserver"
    modules = [path.name for folder in (package, package / "store") for path in folder.glob("[!_]*.py")]
    assert len(modules) > 30
    assert [name for name in modules if f"`{name}`" not in written] == []


def test_the_openapi_document_describes_every_route_with_examples_that_are_valid(
    asking: httpx.Client,
) -> None:
    document = asking.get("/schema/openapi.json").json()
    routes = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    assert routes >= {
        "POST /api/upload-recording",
        "GET /api/transcription-status/{call_id}",
        "GET /api/calls",
        "GET /api/calls/{call_id}",
        "DELETE /api/calls/{call_id}",
        "GET /api/calls/{call_id}/audio",
        "GET /api/calls/{call_id}/transcript",
        "PATCH /api/calls/{call_id}/transcript",
        "POST /api/calls/{call_id}/review",
        "GET /api/server-key",
        "GET /health/live",
        "GET /health/ready",
        "GET /metrics",
    }
    assert document["security"] == [{"token": []}, {"extension": []}]
    review = document["paths"]["/api/calls/{call_id}/review"]["post"]
    [sent] = review["requestBody"]["content"]["application/json"]["schema"]["examples"]
    assert msgspec.convert(sent, wire.ReviewDecision).decision == "approved"
    [answered] = review["responses"]["200"]["content"]["application/json"]["examples"].values()
    assert msgspec.convert(answered["value"], wire.Call).ticket is not None
    assert {"400", "401", "403", "404", "409", "410"} <= review["responses"].keys()


def test_the_schema_loads_nothing_from_elsewhere(asking: httpx.Client) -> None:
    answer = asking.get("/schema")
    assert "json" in answer.headers["content-type"]
    assert asking.get("/schema/swagger").status_code == 404


# Garbage


@pytest.fixture(scope="module")
def battered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A server's address, and a call for the garbage to hit."""
    with running(tmp_path_factory.mktemp("battered")) as server:
        yield server.url, server.transcribed()


ROUTES = [
    ("GET", wire.CALLS),
    ("GET", wire.CALLS + "/{id}"),
    ("GET", wire.CALLS + "/{id}/audio"),
    ("GET", wire.CALLS + "/{id}/transcript"),
    ("PATCH", wire.CALLS + "/{id}/transcript"),
    ("POST", wire.CALLS + "/{id}/review"),
    ("DELETE", wire.CALLS + "/nothing"),
    ("GET", wire.TRANSCRIPTION_STATUS + "/{id}"),
    ("POST", wire.UPLOAD_RECORDING),
    ("GET", wire.SERVER_KEY),
    ("GET", wire.READY),
    ("GET", "/schema"),
]
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.strip)
QUERY = st.dictionaries(
    st.sampled_from(
        ["q", "state", "since", "until", "cursor", "limit", "format", "remote_party", "extension"]
    ),
    st.one_of(
        st.text(max_size=60),
        st.integers().map(str),
        st.datetimes().map(lambda moment: f"{moment.isoformat()}+14:00"),
    ),
    max_size=3,
)
BODY = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["version", "decision", "segments", "id", "text", "ticket"]), inner
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@hypothesis_settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    route=st.sampled_from(ROUTES),
    query=QUERY,
    body=BODY,
    extension=st.one_of(st.just("201"), HEADER),
    content_type=st.one_of(
        st.sampled_from(["application/json", "multipart/form-data; boundary=x", ""]), HEADER
    ),
    asked=HEADER,
    identity=st.one_of(st.just(""), st.text(min_size=1, max_size=20)),
)
def test_no_garbage_brings_the_server_to_fail(
    battered: tuple[str, str],
    route: tuple[str, str],
    query: dict[str, str],
    body: bytes,
    extension: str,
    content_type: str,
    asked: str,
    identity: str,
) -> None:
    method, path = route
    headers = {wire.EXTENSION_HEADER: extension, "Content-Type": content_type, "Range": asked}
    url, call_id = battered
    with httpx.Client(base_url=url, timeout=20) as http:
        answer = http.request(
            method,
            path.replace("{id}", quote(identity, safe="") or call_id),
            params=query,
            content=body,
            headers=headers,
        )
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert msgspec.json.decode(answer.content, type=wire.Problem).status == answer.status_code


def test_raw_bytes_in_an_address_bring_no_failure(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    for path in (b"/api/calls/%ff%fe", b"/api/calls?q=%ff%00", b"/api/calls?q=%ed%a0%80", b"/%c3%28/\xff"):
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            raw.sendall(
                b"GET "
                + path
                + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Extension: 201\r\nConnection: close\r\n\r\n"
            )
            first = raw.makefile("rb").readline()
        assert first.split()[1] in (b"200", b"400", b"404"), (path, first)


def test_one_day_is_a_day(server: Server, http: httpx.Client) -> None:
    """`until` excludes and `since` includes, so that days lie side by side without a call in both."""
    midnight = STARTED_AT.replace(hour=0)
    call_id = server.received(started_at=midnight)
    day = timedelta(days=1)
    assert ids(http, since=(midnight - day).isoformat(), until=midnight.isoformat()) == []
    assert ids(http, since=midnight.isoformat(), until=(midnight + day).isoformat()) == [call_id]
