"""`wa demo`: a call goes down the whole line before your eyes."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whisperagent import console, i18n, settings
from whisperagent.errors import WhisperError
from whisperagent.i18n import _

if TYPE_CHECKING:
    from whisperserver.demo.line import Line
    from whisperserver.demo.play import Outcome, Play, Recording

demo = typer.Typer(add_completion=False, rich_markup_mode=None)


@demo.command(
    help=_(
        "Play a call from a file, all the way to a ticket.\n\n"
        "It is detected, recorded, sealed, uploaded, transcribed, reviewed and becomes a ticket in a "
        "stand-in for NinjaOne. All of it runs on this machine, and ends with the command."
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)
def main(
    call: Annotated[
        str,
        typer.Option(metavar="NAME|FILE.wav", help=_("`french`, `english`, `noisy`, or a file.")),
    ] = "",
    speed: Annotated[
        float, typer.Option(min=0.1, max=50, help=_("How fast it plays, times real time."))
    ] = 4.0,
    model: Annotated[str, typer.Option(metavar="NAME|DIR", help=_("The speech model."))] = "demo",
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help=_("Keep everything in this folder."))
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help=_("Approve the transcript without showing it."))] = False,
    json: Annotated[bool, typer.Option("--json", help=_("One JSON document."))] = False,
) -> None:
    loaded = settings.load()
    from whisperserver.demo import line as lines
    from whisperserver.demo import play as plays
    from whisperserver.transcribe import models

    played = plays.recording(call or ("french" if i18n.spoken() == "fr" else "english"))
    speech = model if model == models.DEMO else str(models.folder(model, loaded.paths.server / "models"))
    asks = not (yes or json) and sys.stdin.isatty() and sys.stdout.isatty()
    with tempfile.TemporaryDirectory(prefix="wa-demo-", ignore_cleanup_errors=True) as temporary:
        folder = keep.absolute() if keep else Path(temporary)
        with lines.line(folder, speech) as line:
            outcome = _go(line, played, speed, model, asks=asks, quiet=json)
        if json:
            console.print_json(outcome)
        else:
            _print(outcome, folder, kept=keep is not None)


def _go(line: "Line", played: "Recording", speed: float, model: str, *, asks: bool, quiet: bool) -> "Outcome":
    from whisperserver.demo.play import Play
    from whisperserver.transcribe import models

    if quiet:
        console.set_up(quiet=True)
    console.say(
        _("{file}: {seconds:.0f} s, played {speed:g} times as fast").format(
            file=played.wav.name, seconds=played.duration_s, speed=speed
        )
    )
    if model == models.DEMO:
        console.say(_(models.DEMO_NOTICE))
    console.say(_("starting a server and a stand-in for NinjaOne"))
    line.start_server()
    with console.progress(_("transcribing"), 1.0) as bar:

        def tell(stage: str, at_s: float) -> None:
            bar.clear()  # a line of text does not go behind a bar
            _tell(stage, at_s)

        play = Play(line, played, speed, tell, bar.update)
        play.start()
        play.until("transcribed")
    if asks:
        _ask_a_person(line, play)
    else:
        play.approve()
    return play.until_ticketed()


def _tell(stage: str, at_s: float) -> None:
    tick = console.styled(console.glyph("✓", "*", sys.stderr), "green", sys.stderr)
    console.say(f"  {tick} {_stage(stage):<28} {at_s:5.1f} s")


def _stage(stage: str) -> str:
    return {
        "detected": _("call detected"),
        "recording": _("recording both sides"),
        "sealed": _("sealed for the server"),
        "queued": _("queued on this PC"),
        "uploaded": _("uploaded"),
        "received": _("stored by the server"),
        "transcribing": _("being transcribed"),
        "transcribed": _("transcribed"),
        "approved": _("approved"),
        "ticketed": _("one ticket made"),
    }[stage]


def _ask_a_person(line: "Line", play: "Play") -> None:
    """The validation screen, as a reviewer sees it."""
    import os

    environment = {key: value for key, value in os.environ.items() if not key.startswith("WA_")}
    environment |= {"WA_HOME": str(line.pc), "WA_UI__LANGUAGE": i18n.spoken()}
    subprocess.run(
        [sys.executable, "-m", "whisperagent", "review", play.call_id], env=environment, check=False
    )
    state = play.server_says().summary.state
    if state not in ("approved", "ticketed"):
        raise WhisperError(
            _("no ticket was made"),
            why=_("you left the call as it is: {state}").format(state=state),
            fix=_("approve it with `a`, or use `wa demo --yes`"),
        )


def _print(outcome: "Outcome", folder: Path, *, kept: bool) -> None:
    console.print_data()
    console.print_data(console.styled(_("transcript"), "bold"))
    for segment in outcome.transcript:
        speaker = {"agent": _("technician"), "caller": _("caller")}.get(segment.speaker, _("unknown"))
        console.print_data(f"  {_clock(segment.start_s)}  {speaker:<10}  {segment.text}")
    if outcome.wer is not None and outcome.speaker_accuracy is not None:
        console.print_data(
            _("  words wrong: {wer:.1%}, speakers right: {accuracy:.1%}").format(
                wer=outcome.wer, accuracy=outcome.speaker_accuracy
            )
        )
    console.print_data()
    heading = _("ticket {number} in the stand-in for NinjaOne").format(number=outcome.ticket["id"])
    console.print_data(console.styled(heading, "bold"))
    for text in (outcome.ticket["subject"], *str(outcome.ticket["description"]).splitlines()):
        console.print_data(f"  {text}")
    console.print_data()
    _print_places(outcome.call_id, folder, kept=kept)


def _print_places(call_id: str, folder: Path, *, kept: bool) -> None:
    """Where everything lies. Nothing else on the PC holds sound."""
    console.print_data(console.styled(_("where it lies: {folder}").format(folder=folder), "bold"))
    places = (
        (_("sealed on the PC"), f"pc/spool/done/{call_id}.1.srec"),
        (_("sealed on the server"), f"server/server/recordings/{call_id}/1.srec"),
        (_("transcript and review"), "server/server/calls.db"),
        (_("the ticket"), "tickets.json"),
        (_("what was logged"), "server.log, pc/logs/agent.log"),
    )
    width = max(len(what) for what, _place in places)
    for what, place in places:
        console.print_data(f"  {what:<{width}}  {place}")
    if kept:
        console.say(
            _("start this server again: WA_HOME={home} wa server serve").format(home=folder / "server")
        )
    else:
        console.say(_("all of it is deleted now; `wa demo --keep DIR` keeps it"))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes):02}:{rest:04.1f}"
