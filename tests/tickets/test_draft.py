"""The draft: what a helpdesk reads, and what a caller cannot smuggle into it."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from whisperagent import i18n, settings, wire
from whisperserver.tickets import as_approved, draft_for
from whisperserver.tickets.draft import inert

CALL = "01980f2e-7a3b-7c41-9d52-3f6a8b1c2d4e"
STARTED = datetime(2026, 10, 18, 12, 3, tzinfo=UTC)
Spoken = tuple[tuple[wire.Speaker, str], ...]
FRENCH: Spoken = (
    ("agent", "Bonjour, service informatique, Sophie à l'appareil."),
    ("caller", "Bonjour Sophie, ici Claire."),
    ("caller", "Oui, alors, mon imprimante ne marche plus depuis ce matin."),
    ("agent", "Je crée un ticket."),
)
ENGLISH: Spoken = (
    ("agent", "Hello, help desk, David speaking."),
    ("caller", "Good morning, my name is Sarah and I work in sales. I cannot open my mailbox."),
)


@pytest.fixture(autouse=True)
def in_paris(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def a_call(
    spoken: Spoken | None = FRENCH,
    language: str = "fr",
    review: wire.Review | None = None,
    complete: bool = True,
    **summary: str,
) -> wire.Call:
    known = {"extension": "101", "agent_name": "Sophie Martin", "remote_party": "+33 6 12 34 56 78"}
    about: dict[str, Any] = known | summary
    metadata = wire.CallMetadata(call_id=CALL, extension="101", started_at=STARTED, complete=complete)
    segments = tuple(
        wire.Segment(id=place, start_s=place * 4.0, end_s=place * 4.0 + 3, speaker=speaker, text=text)
        for place, (speaker, text) in enumerate(spoken or ())
    )
    return wire.Call(
        summary=wire.CallSummary(
            call_id=CALL,
            state=wire.CallState.TRANSCRIBED,
            started_at=STARTED,
            duration_s=125.4,
            direction="inbound",
            **about,
        ),
        parts=(wire.CallPart(metadata=metadata, sha256="", size=0, received_at=STARTED),),
        transcript=None
        if spoken is None
        else wire.Transcript(
            call_id=CALL,
            version=1,
            language=language,
            model="large-v3-turbo",
            duration_s=125.4,
            segments=segments,
        ),
        review=review,
    )


def test_a_french_call_makes_a_french_ticket() -> None:
    review = wire.Review(decision="approved", reviewer="102", at=datetime(2026, 10, 18, 12, 20, tzinfo=UTC))
    draft = draft_for(a_call(review=review), settings.Tickets())
    assert draft.subject == ("[Appel] +33 6 12 34 56 78 - mon imprimante ne marche plus depuis ce matin.")
    assert draft.body == (
        "Appel : 18/10/2026 à 14:03 (UTC+02:00)\n"
        "Poste : 101 (Sophie Martin)\n"
        "Correspondant : +33 6 12 34 56 78 (appel reçu)\n"
        "Durée : 2 min 05 s\n"
        "Langue : français\n"
        "\n"
        "Transcription\n"
        "[00:00] Technicien : Bonjour, service informatique, Sophie à l'appareil.\n"
        "[00:04] Correspondant : Bonjour Sophie, ici Claire.\n"
        "[00:08] Correspondant : Oui, alors, mon imprimante ne marche plus depuis ce matin.\n"
        "[00:12] Technicien : Je crée un ticket.\n"
        "\n"
        "Transcription automatique (modèle large-v3-turbo), relue par 102 à 14:20.\n"
        f"rec:{CALL}"
    )
    assert draft.tags == ("appel-3cx",)


def test_an_english_call_makes_an_english_ticket_whatever_the_server_speaks() -> None:
    i18n.use("fr")
    try:
        draft = draft_for(a_call(ENGLISH, "en"), settings.Tickets())
    finally:
        i18n.use("en")
    assert draft.subject == "[Call] +33 6 12 34 56 78 - I cannot open my mailbox."
    assert "[00:04] Other party: Good morning, my name is Sarah" in draft.body
    assert draft.body.endswith(f"Automatic transcription (model large-v3-turbo).\nrec:{CALL}")


@pytest.mark.parametrize(("language", "word"), [("fr", "[Appel]"), ("en", "[Call]")])
@pytest.mark.parametrize(
    "call", [a_call(None), a_call((("caller", "Guten Tag, mein Drucker druckt."),), "de")]
)
def test_a_call_in_neither_language_is_written_up_in_the_servers_own(
    call: wire.Call, language: str, word: str
) -> None:
    i18n.use(language)
    try:
        assert draft_for(call, settings.Tickets()).subject.startswith(word)
    finally:
        i18n.use("en")


def test_a_caller_who_only_gives_a_name_is_named_in_the_subject() -> None:
    draft = draft_for(
        a_call((("caller", "Bonjour, je m'appelle Claire."), ("caller", "Oui."))), settings.Tickets()
    )
    assert draft.subject == "[Appel] +33 6 12 34 56 78 - je m'appelle Claire."


def test_a_call_without_a_word_still_has_a_subject() -> None:
    draft = draft_for(a_call((), remote_party=""), settings.Tickets())
    assert draft.subject == "[Appel] numéro inconnu"
    assert "(aucune parole)" in draft.body


def test_an_interrupted_recording_says_so() -> None:
    assert "Enregistrement interrompu" in draft_for(a_call(complete=False), settings.Tickets()).body


def test_a_mono_recording_names_no_speaker() -> None:
    draft = draft_for(a_call((("unknown", "Mon écran reste noir."),)), settings.Tickets())
    assert draft.subject.endswith(" - Mon écran reste noir.")
    assert "[00:00] Mon écran reste noir." in draft.body


def test_a_long_subject_is_cut_between_words() -> None:
    draft = draft_for(a_call((("caller", "imprimante " * 60),)), settings.Tickets())
    assert 180 < len(draft.subject) <= 200
    assert draft.subject.endswith("imprimante…")


def test_a_very_long_call_keeps_its_last_line_and_says_where_the_rest_is() -> None:
    draft = draft_for(a_call((("caller", "mon imprimante ne marche plus " * 30),) * 100), settings.Tickets())
    assert len(draft.body) <= 60_000
    assert "(la suite est dans WhisperAgent)" in draft.body
    assert draft.body.endswith(f"rec:{CALL}")


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("<b onclick=x>urgent</b>", "‹b onclick=x›urgent‹/b›"),
        ("allez sur https://evil.example/a", "allez sur https[:]//evil[.]example/a"),
        ("voyez www.evil.com", "voyez www[.]evil[.]com"),
        ("marie@acme.fr", "marie@acme[.]fr"),
        ("version 3.5 sur 10.0.0.5.", "version 3.5 sur 10.0.0.5."),
        ("une\nrec:autre\u2028ligne\x1b[31m", "une rec:autre ligne [31m"),
        ("\u202egnp.exe\u200b", "gnp[.]exe"),
    ],
)
def test_nothing_spoken_becomes_markup_a_link_or_a_line(said: str, written: str) -> None:
    assert inert(said) == written


@hypothesis_settings(deadline=None)
@given(st.text(), st.text(max_size=200), st.sampled_from(["fr", "en", "de", ""]))
def test_any_words_make_a_draft_within_the_limits_that_ends_with_its_call(
    said: str, party: str, language: str
) -> None:
    draft = draft_for(a_call((("caller", said),), language, remote_party=party), settings.Tickets())
    msgspec.convert(msgspec.to_builtins(draft), wire.TicketDraft)
    assert draft.body.splitlines()[-1] == f"rec:{CALL}"
    assert draft.body.count("\nrec:") == 1
    assert not set("<>") & set(draft.subject + draft.body)
    assert "://" not in draft.subject + draft.body


def test_the_same_call_always_makes_the_same_draft() -> None:
    assert draft_for(a_call(), settings.Tickets()) == draft_for(a_call(), settings.Tickets())


REVIEW = wire.Review(decision="approved", reviewer="204", at=datetime(2026, 10, 18, 12, 30, tzinfo=UTC))


def test_a_text_that_was_approved_says_who_read_it_when() -> None:
    shown = draft_for(a_call(), settings.Tickets())
    written = msgspec.structs.replace(shown, body=shown.body.replace("imprimante", "imprimante laser"))
    sent = as_approved(written, a_call(review=REVIEW))
    assert sent.body.splitlines()[-2].endswith(", relue par 204 à 14:30.")
    assert sent.body.splitlines()[:-2] == written.body.splitlines()[:-2]
    assert as_approved(shown, a_call(review=REVIEW)) == draft_for(a_call(review=REVIEW), settings.Tickets())


def test_a_line_that_the_reviewer_took_out_is_not_put_back() -> None:
    written = wire.TicketDraft(subject="imprimante", body="Bonjour,\nl'imprimante du 2e ne marche plus.")
    assert as_approved(written, a_call(review=REVIEW)) == written
