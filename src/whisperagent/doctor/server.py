"""The server: is it there, is it ours, does it know us."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from whisperagent.client import Client, no_server
from whisperagent.doctor.findings import Finding, Result, failed
from whisperagent.errors import ConfigError, NotAuthenticated, ServerUnreachable, WhisperError
from whisperagent.i18n import _
from whisperagent.keys import KeyChanged, Keys
from whisperagent.settings import Paths, Settings, token
from whisperagent.upload import in_words
from whisperagent.wire import ServerKey

ANSWER_S = 10.0
"""How long the server may take here; a person waits."""
SKEW_S = 30.0
FAR_SKEW_S = 300.0


@dataclass(frozen=True)
class Answers:
    """What the server said. problem: why it gave no key. skew_s: how far its clock is ahead of ours.

    holds_pinned: it proved to hold the key that is pinned here, whatever it shows.
    """

    key: ServerKey | None
    holds_pinned: bool
    problem: WhisperError | None
    skew_s: float | None
    channel: WhisperError | None


async def examine(settings: Settings, where: Paths) -> AsyncIterator[Finding]:
    if not settings.server.url:
        nowhere = no_server()
        result: Result = "ok" if settings.offline.enabled else "warning"
        yield Finding("server", result, nowhere.what, nowhere.why, nowhere.fix)
        return
    proof = ""
    bad_token: ConfigError | None = None
    try:
        proof = token()
    except ConfigError as problem:
        bad_token = problem
    keys: Keys | ConfigError
    try:
        keys = Keys(where.home, settings.server.key)
    except ConfigError as problem:
        keys = problem
    answers = await ask(settings, proof, keys)
    yield server(settings.server.url, answers)
    if answers.key is None and not isinstance(answers.problem, NotAuthenticated):
        return
    yield clock(answers.skew_s)
    yield failed("token", bad_token) if bad_token else credential(answers, proof)
    yield failed("key", keys) if isinstance(keys, ConfigError) else key(keys, answers)
    if answers.key is not None:
        yield channel(answers.channel)


async def ask(settings: Settings, proof: str, keys: Keys | ConfigError) -> Answers:
    """Ask the server for its key, then for its review channel. proof: a token, may be empty."""
    async with Client(
        settings.server.url,
        settings.agent.extension,
        proof,
        min(ANSWER_S, settings.server.timeout_s),
    ) as client:
        shown: ServerKey | None = None
        problem: WhisperError | None = None
        holds_pinned = False
        try:
            shown = await client.server_key()
            holds_pinned = isinstance(keys, Keys) and await keys.vouched(client.server_key) is not None
        except WhisperError as error:
            problem = error
        ahead = client.server_clock - datetime.now(UTC) if client.server_clock else None
        unheard: WhisperError | None = None
        if shown is not None:
            try:
                await client.channel().greet(ANSWER_S)
            except WhisperError as error:
                unheard = error
    return Answers(shown, holds_pinned, problem, None if ahead is None else ahead.total_seconds(), unheard)


def server(url: str, answers: Answers) -> Finding:
    if answers.problem is None or isinstance(answers.problem, NotAuthenticated):
        return Finding("server", "ok", _("{url} answers").format(url=url))
    return failed("server", answers.problem)


def clock(skew_s: float | None) -> Finding:
    if skew_s is None:
        return Finding("clock", "not here", _("the server does not tell what time it is"))
    if abs(skew_s) <= SKEW_S:
        return Finding("clock", "ok", _("the clocks of this PC and of the server agree"))
    apart = _duration(abs(skew_s))
    what = (
        _("this PC's clock is {time} behind the server's")
        if skew_s > 0
        else _("this PC's clock is {time} ahead of the server's")
    ).format(time=apart)
    result: Result = "failed" if abs(skew_s) > FAR_SKEW_S else "warning"
    return Finding(
        "clock",
        result,
        what,
        _("calls are listed at the wrong time"),
        _("let both set their clocks by the network (NTP)"),
    )


def credential(answers: Answers, proof: str) -> Finding:
    if answers.problem is not None:
        return failed("token", answers.problem)
    if proof:
        return Finding("token", "ok", _("the server accepts this PC's token"))
    return Finding("token", "ok", _("the server asks for no token"))


def key(keys: Keys, answers: Answers) -> Finding:
    """Is the server the one that recordings are sealed to?"""
    if answers.key is None:
        return Finding("key", "not here", _("the server shows its key only to those it knows"))
    if not keys.pinned:
        return Finding("key", "ok", _("no key is pinned yet: the agent pins the first one it is shown"))
    try:
        keys.meet(answers.key)
    except KeyChanged as problem:
        if not answers.holds_pinned:
            return failed("key", problem)
        return Finding(
            "key",
            "ok",
            _("the server has a new key, {kid}, and opens what is sealed to the pinned one").format(
                kid=answers.key.kid
            ),
        )
    except WhisperError as problem:
        return failed("key", problem)
    return Finding("key", "ok", _("the server shows the pinned key, {kid}").format(kid=answers.key.kid))


def channel(problem: WhisperError | None) -> Finding:
    if problem is None:
        return Finding("channel", "ok", _("the server tells when a transcript is ready"))
    result: Result = "failed" if isinstance(problem, NotAuthenticated | ServerUnreachable) else "warning"
    return Finding(
        "channel",
        result,
        _("nobody is told when a transcript is ready; calls are sent all the same"),
        in_words(problem),
        problem.fix or _("a proxy before the server must let websockets through"),
    )


def _duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h`."""
    if seconds < 120:
        return _("{count} s").format(count=round(seconds))
    if seconds < 7200:
        return _("{count} min").format(count=round(seconds / 60))
    return _("{count} h").format(count=round(seconds / 3600))
