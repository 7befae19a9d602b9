"""Calls as a helpdesk has them, for the screens to show: fixed ids, fixed times."""

from datetime import UTC, datetime, timedelta

from whisperagent import wire
from whisperagent.wire import CallState

NOW = datetime(2026, 3, 12, 14, 30, tzinfo=UTC)
US = "201"
OUTLOOK = "0199e000-0001-7000-8000-000000000001"
PRINTER = "0199e000-0002-7000-8000-000000000002"
VPN = "0199e000-0003-7000-8000-000000000003"
PHONE = "0199e000-0004-7000-8000-000000000004"
COMING = "0199e000-0005-7000-8000-000000000005"


def spoken(start_s: float, speaker: wire.Speaker, text: str, number: int, **doubts: float) -> wire.Segment:
    """A segment whose words are sure, except those named in `doubts`."""
    parts = text.split()
    step = 0.4
    words = tuple(
        wire.Word(
            start_s=start_s + place * step,
            end_s=start_s + (place + 1) * step,
            text=f" {part}",
            probability=doubts.get(part.strip(".,?"), 0.97),
        )
        for place, part in enumerate(parts)
    )
    return wire.Segment(
        id=number, start_s=start_s, end_s=start_s + len(parts) * step, speaker=speaker, text=text, words=words
    )


OUTLOOK_WORDS = (
    spoken(0.8, "agent", "Infogérance Dupont, bonjour, Claire à l'appareil.", 0),
    spoken(4.2, "caller", "Bonjour, c'est Marc Lefèvre du cabinet Moreau.", 1, Lefèvre=0.41),
    spoken(
        8.9, "caller", "Depuis ce matin Outlook me redemande mon mot de passe toutes les cinq minutes.", 2
    ),
    spoken(15.0, "agent", "D'accord. C'est sur le poste PC-0147 ?", 3, **{"PC-0147": 0.72}),
    spoken(18.6, "caller", "Oui, et sur le téléphone aussi depuis que j'ai changé le mot de passe.", 4),
    spoken(
        24.1,
        "agent",
        "Je vide les identifiants enregistrés et je vous rappelle au 01 44 55 66 77 avant 16 heures.",
        5,
        **{"77": 0.55},
    ),
    spoken(32.5, "caller", "Parfait, merci beaucoup.", 6),
)

OUTLOOK_TICKET = wire.TicketDraft(
    subject="Outlook redemande le mot de passe",
    body=(
        "Appelant : Marc Lefèvre, cabinet Moreau\nPoste : PC-0147\n\n"
        "Outlook redemande le mot de passe toutes les cinq minutes depuis ce matin, "
        "sur le poste et sur le téléphone.\n\nÀ faire : vider les identifiants, rappeler avant 16 h."
    ),
    priority="MEDIUM",
    tags=("appel-3cx",),
)


def call(
    call_id: str,
    state: CallState,
    minutes_ago: float,
    party: str,
    segments: tuple[wire.Segment, ...] = (),
    draft: wire.TicketDraft | None = None,
    **summary: object,
) -> wire.Call:
    """A call as the server tells it; `summary` sets more fields of its summary."""
    started_at = NOW - timedelta(minutes=minutes_ago)
    duration_s = segments[-1].end_s if segments else 95.0
    known: dict[str, object] = {
        "extension": US,
        "duration_s": duration_s,
        "remote_party": party,
        "language": "fr",
        "snippet": segments[1].text if segments else "",
    }
    transcript = None
    if segments:
        transcript = wire.Transcript(
            call_id=call_id, version=1, language="fr", model="m", duration_s=duration_s, segments=segments
        )
    return wire.Call(
        summary=wire.CallSummary(call_id=call_id, state=state, started_at=started_at, **{**known, **summary}),  # type: ignore[arg-type]
        parts=(),
        transcript=transcript,
        draft=draft,
    )


def outlook() -> wire.Call:
    """The call that most tests review: seven segments, three doubts, a draft."""
    return call(OUTLOOK, CallState.TRANSCRIBED, 95, "Cabinet Moreau", OUTLOOK_WORDS, OUTLOOK_TICKET)


def printer() -> wire.Call:
    words = (
        spoken(1.0, "agent", "Good morning, how can I help?", 0),
        spoken(3.5, "caller", "The printer on the second floor prints blank pages.", 1, blank=0.3),
    )
    draft = wire.TicketDraft(subject="Printer prints blank pages", body="Second floor.", priority="LOW")
    return call(PRINTER, CallState.TRANSCRIBED, 50, "+33 1 42 68 53 00", words, draft, language="en")


def vpn() -> wire.Call:
    words = (
        spoken(1.0, "agent", "Support, bonjour.", 0),
        spoken(2.5, "caller", "Le VPN ne se connecte plus de la maison.", 1),
    )
    return call(VPN, CallState.TICKETED, 1500, "Étude Girard", words, ticket_id="4702")


def phone() -> wire.Call:
    return call(
        PHONE, CallState.FAILED, 1600, "Anonyme", error="the speech model is missing", extension="202"
    )


def coming() -> wire.Call:
    return call(COMING, CallState.TRANSCRIBING, 4, "Mairie de Sceaux", language="")


def all_calls() -> list[wire.Call]:
    return [outlook(), printer(), vpn(), phone(), coming()]


def talking() -> wire.CurrentCall:
    """A call that is being recorded, both sides heard."""
    return wire.CurrentCall(
        call_id=COMING,
        started_at=NOW - timedelta(seconds=125),
        state="call",
        recorded_s=125.4,
        remote_party="Cabinet Moreau",
        levels={"agent": -18.0, "caller": -31.0},
        silent_s={"agent": 0.0, "caller": 1.0},
    )
