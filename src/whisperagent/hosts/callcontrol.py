"""What 3CX itself says of an extension's calls, by its Call Control API.

A hook beside the signals of the PC: watch.py mixes it in (hooks.py), detect.py believes it. It wants an
Enterprise licence and an API client that an administrator made, so everything works without it: whatever is
wrong here is shown, and until it is right again the other signals decide alone.

An event of the websocket is only a hint that something changed; then the participants are asked for. So a
lost event, a new connection and another token are all the same case.

API: https://www.3cx.com/docs/call-control-api-endpoints/ (3CX version 20).
"""

import asyncio
import logging
import math
import random
import time
from dataclasses import dataclass
from typing import Literal, TypeVar

import httpx
import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from whisperagent import client
from whisperagent.errors import NotAuthenticated, ServerRefused, ServerUnreachable, WhisperError
from whisperagent.i18n import _

Direction = Literal["unknown", "inbound", "outbound"]

ANSWER_S = 10.0
"""How long one request may take."""
ENDED_S = 5.0
"""How long `ended` is said: the softphone's streams go within this time, and a veto must not outlive them."""
REFUSED_S = 300.0
"""Between two tries when an administrator has to act."""
DELAYS_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Before the next try, after one failure, two, …"""
CONNECTED = "Connected"
DIRECTIONS: dict[str, Direction] = {"Ringing": "inbound", "Dialing": "outbound"}
"""What a leg's status says before the answer."""

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Hook:
    """What is known now; fields as in `detect.Signals`."""

    hook: Literal["", "ringing", "connected", "ended"] = ""
    hook_call: str = ""
    remote_party: str = ""
    direction: Direction = "unknown"


class Participant(msgspec.Struct, frozen=True):
    """One leg of a call, at this extension. status: Dialing, Ringing or Connected.

    party_caller_id: the other one's number; party_dn: the trunk's or, inside, the extension's.
    """

    id: int
    status: str = ""
    party_caller_name: str | None = None
    party_caller_id: str | None = None
    party_dn: str | None = None


class _Token(msgspec.Struct, frozen=True):
    access_token: str


class _Change(msgspec.Struct, frozen=True):
    """entity: e.g. `/callcontrol/201/participants/8106`."""

    entity: str = ""


class _Message(msgspec.Struct, frozen=True):
    event: _Change = _Change()


class CallControl:
    """Follows the calls of one extension while `run` runs.

    url: e.g. `https://pbx.example.com`. problem: why nothing is known now; None when all is well.
    """

    def __init__(self, url: str, client_id: str, client_secret: str, extension: str) -> None:
        self.problem: WhisperError | None = None
        self.extension = extension
        self._url = url.rstrip("/")
        self._credentials = {
            "client_id": client_id,
            "client_secret": client_secret,
            "grant_type": "client_credentials",
        }
        self._token = ""
        self._now = Hook()
        self._directions: dict[int, Direction] = {}
        self._ended_at = -math.inf
        self._failures = 0

    def look(self) -> Hook:
        """What is known now; never waits."""
        if self._now.hook != "connected" and time.monotonic() - self._ended_at < ENDED_S:
            return Hook("ended")
        return self._now

    async def run(self) -> None:
        """Until cancelled, coming back from whatever happens."""
        while True:
            refused = False
            try:
                await self._follow()
            except ServerUnreachable as problem:
                self._trouble(problem)
            except (NotAuthenticated, ServerRefused) as problem:
                self._trouble(problem)
                refused = True
            except Exception as problem:
                # Whatever it is: recording goes on without this hook.
                log.exception("the Call Control API broke off")
                self.problem = WhisperError(_("3CX's word on calls is not understood"), why=str(problem))
            finally:
                # A call may end now and another begin, and nobody would tell.
                self._now, self._ended_at = Hook(), -math.inf
            wait_s = REFUSED_S if refused else DELAYS_S[min(self._failures, len(DELAYS_S) - 1)]
            self._failures += 1
            # All PCs of a company lose the telephone system at the same moment.
            await asyncio.sleep(wait_s * random.uniform(0.7, 1.3))  # noqa: S311 - jitter, not a secret

    def _trouble(self, problem: WhisperError) -> None:
        if self.problem is None or (problem.what, problem.why) != (self.problem.what, self.problem.why):
            log.warning("%s: %s", problem.what, problem.why)
        self.problem = problem

    async def _follow(self) -> None:
        """One connection, until it ends."""
        async with httpx.AsyncClient(base_url=self._url, timeout=ANSWER_S) as http:
            # A new one each time: which of them are still valid is the telephone system's affair.
            await self._authenticate(http)
            try:
                async with connect(
                    f"{self._url.replace('http', 'ws', 1)}/callcontrol/ws",
                    additional_headers={"Authorization": f"Bearer {self._token}"},
                    open_timeout=ANSWER_S,
                    close_timeout=1.0,
                ) as channel:
                    # Connected first and asked then, so that nothing falls between.
                    await self._learn(http)
                    async for message in channel:
                        if self._concerns_us(message):
                            await self._learn(http)
            except InvalidStatus as problem:
                raise self._refusal(problem.response.status_code) from None
            except (OSError, WebSocketException) as problem:
                raise self._unreachable(problem) from None

    async def _learn(self, http: httpx.AsyncClient) -> None:
        before, self._now = self._now, self._meaning(await self._participants(http))
        if before.hook == "connected" and self._now.hook != "connected":
            self._ended_at = time.monotonic()
        self.problem = None
        self._failures = 0

    def _meaning(self, participants: list[Participant]) -> Hook:
        self._directions = {
            one.id: DIRECTIONS.get(one.status) or self._directions.get(one.id, "unknown")
            for one in participants
        }
        connected = [one for one in participants if one.status == CONNECTED]
        if not connected:
            return Hook("ringing" if any(one.status in DIRECTIONS for one in participants) else "")
        # With a second call beside it the first one stays the call, until it is over.
        known = [one for one in connected if str(one.id) == self._now.hook_call]
        call = known[0] if known else min(connected, key=lambda one: one.id)
        party = call.party_caller_id or call.party_dn or call.party_caller_name or ""
        return Hook("connected", str(call.id), party, self._directions[call.id])

    def _concerns_us(self, message: str | bytes) -> bool:
        try:
            entity = msgspec.json.decode(message, type=_Message).event.entity
        except msgspec.DecodeError:
            return False
        return entity.startswith(f"/callcontrol/{self.extension}/participants")

    # Requests

    async def _authenticate(self, http: httpx.AsyncClient) -> None:
        self._token = ""
        answer = await self._ask(http, "POST", "/connect/token", self._credentials)
        if answer.status_code in (400, 401, 403):
            raise NotAuthenticated(
                _("{url} does not accept this API client").format(url=self._url),
                why=_("it answered {status} to `client_id` and `client_secret`").format(
                    status=answer.status_code
                ),
                fix=_("check both under [callcontrol] in config.toml"),
            )
        self._token = self._decoded(answer, _Token).access_token

    async def _participants(self, http: httpx.AsyncClient) -> list[Participant]:
        path = f"/callcontrol/{self.extension}/participants"
        answer = await self._ask(http, "GET", path)
        if answer.status_code == 401:
            # A token lasts an hour, or until somebody makes another one for the same API client.
            await self._authenticate(http)
            answer = await self._ask(http, "GET", path)
        return self._decoded(answer, list[Participant])

    async def _ask(
        self, http: httpx.AsyncClient, method: str, path: str, data: dict[str, str] | None = None
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            return await http.request(method, path, data=data, headers=headers)
        except httpx.TransportError as problem:
            raise self._unreachable(problem) from None

    def _decoded(self, answer: httpx.Response, kind: type[T]) -> T:
        if answer.status_code >= 400:
            raise self._refusal(answer.status_code)
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.DecodeError as problem:
            raise ServerUnreachable(
                _("{url} does not answer like 3CX's Call Control API").format(url=self._url),
                why=str(problem),
                fix=_("check `url` under [callcontrol] in config.toml"),
            ) from None

    def _refusal(self, status: int) -> ServerUnreachable | ServerRefused:
        what = _("{url} does not tell of the calls of extension {extension}").format(
            url=self._url, extension=self.extension
        )
        why = _("the server answered {status}").format(status=status)
        if status >= 500 or status in client.TRY_AGAIN:
            return ServerUnreachable(what, why=why)
        fix = _("an administrator grants this extension to the API client; it wants an Enterprise licence")
        return ServerRefused(what, status=status, why=why, fix=fix)

    def _unreachable(self, problem: Exception) -> ServerUnreachable:
        return ServerUnreachable(
            _("cannot reach the telephone system at {url}").format(url=self._url),
            why=client.unreachable(self._url, problem).why,
            fix=_("check `url` under [callcontrol] in config.toml"),
        )
