"""A conversation with NinjaOne's API: token, pace, and what each kind of failure means.

Rules, from the vendor's document (v2) and from what its users report (docs/tickets.md):

* Two requests a second at most, and none before the end of a Retry-After: no limit is published.
* A new token on 401 only, and once: a 401 was certainly not executed.
* A page instead of JSON means throttled; it comes with any status.
* A request that was written and not properly answered is Unknown; for a question, which changes nothing, that
  is the same as NotSent.
* Tokens, bodies and answers are never logged; the id that the vendor's support asks for is.
"""

import asyncio
import logging
import ssl
import time
from typing import Any

import httpx

from whisperagent.errors import ConfigError
from whisperagent.i18n import _
from whisperserver.tickets.sink import NotSent, Rejected, Unknown

TOKEN = "/ws/oauth/token"  # noqa: S105 - a path
SCOPES = "monitoring management"
THROTTLED_S = 60.0
"""How long to stay away from a NinjaOne that throttles without saying for how long."""

NOT_NOW = (408, 425, 429)
NO_SUCH_PATH = (404, 405)
WORDS_MAX = 300

log = logging.getLogger(__name__)


class NotThere(Rejected):
    """404: no ticket, board or organisation of that number."""


class NinjaApi:
    """One tenant, as one API client (client credentials).

    url: the region's host, e.g. `https://eu.ninjarmm.com`. Each question opens its own connection: tickets
    are few, and a connection kept for hours is one that the other side has closed.
    """

    def __init__(
        self, url: str, client_id: str, client_secret: str, timeout_s: float, requests_per_s: float = 2.0
    ) -> None:
        self.url = _checked(url)
        self._client = {"client_id": client_id, "client_secret": client_secret}
        self._timeout_s = timeout_s
        self._pace = _Pace(1.0 / requests_per_s)
        self._token = ""
        # Once, not for each connection: reading the system's certificates takes longer than a request.
        self._tls: ssl.SSLContext = httpx.create_ssl_context()

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """A question, which changes nothing: the JSON of the answer. raises NotSent, Rejected."""
        try:
            return await self.tell(method, path, body)
        except Unknown as problem:
            raise NotSent(problem.what, why=problem.why, fix=problem.fix) from None

    async def tell(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """A request that may change something: the JSON of the answer. raises NotSent, Rejected, Unknown."""
        async with httpx.AsyncClient(base_url=self.url, timeout=self._timeout_s, verify=self._tls) as http:
            if not self._token:
                await self._authenticate(http)
            response = await self._send(http, method, path, body)
            if response.status_code == 401:
                await self._authenticate(http)
                response = await self._send(http, method, path, body)
        return self._understood(response)

    async def _authenticate(self, http: httpx.AsyncClient) -> None:
        form = {"grant_type": "client_credentials", "scope": SCOPES, **self._client}
        try:
            response = await self._request(http, "POST", TOKEN, data=form)
            answer = self._understood(response)
        except Unknown as problem:
            raise NotSent(problem.what, why=problem.why, fix=problem.fix) from None
        except Rejected as problem:
            # Only here: elsewhere a 404 is a ticket, a board or a form that is not there.
            raise Rejected(
                _("NinjaOne refuses the API client"), why=problem.why, fix=_cure(response)
            ) from None
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token:
            raise NotSent(_("{url} gave no token").format(url=self.url), fix=_("check `tickets.url`"))
        self._token = token

    async def _send(
        self, http: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None
    ) -> httpx.Response:
        return await self._request(
            http, method, path, json=body, headers={"Authorization": f"Bearer {self._token}"}
        )

    async def _request(self, http: httpx.AsyncClient, method: str, path: str, **how: Any) -> httpx.Response:
        await self._pace.turn()
        try:
            response = await http.request(method, path, **how)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as problem:
            raise NotSent(
                _("cannot reach {url}").format(url=self.url),
                why=_seen(problem),
                fix=_("check `tickets.url` and this server's way to the internet"),
            ) from None
        except httpx.RequestError as problem:
            # Whatever else went wrong, the request may have been read.
            raise Unknown(_("{url} did not answer").format(url=self.url), why=_seen(problem)) from None
        if response.is_error:
            log.warning(
                "NinjaOne answers %d to %s %s (%s)", response.status_code, method, path, _incident(response)
            )
        return response

    def _understood(self, response: httpx.Response) -> Any:
        """The JSON of a 2xx; else the error that says whether the request was executed."""
        status, document = response.status_code, _json(response)
        if response.is_success and document is not None:
            return document
        page = document is None and status not in NO_SUCH_PATH
        if response.is_client_error and (page or status in NOT_NOW):
            wait_s = _retry_after_s(response)
            self._pace.close_for(wait_s)
            raise NotSent(_("NinjaOne asks to slow down"), why=_words(response), retry_after_s=wait_s)
        if response.is_client_error:
            raise _rejection(response)
        raise Unknown(_("NinjaOne answered nothing certain"), why=_words(response))


class _Pace:
    """Turns at least `gap_s` apart, and none while the other side asked to be left alone."""

    def __init__(self, gap_s: float) -> None:
        self._gap_s = gap_s
        self._next = 0.0
        self._closed_until = 0.0

    async def turn(self) -> None:
        """Wait for a turn. raises NotSent: not before the end of a Retry-After."""
        now = time.monotonic()
        if self._closed_until > now:
            raise NotSent(_("NinjaOne asks to slow down"), retry_after_s=self._closed_until - now)
        # The turn is taken before the wait, so two tasks never take the same one.
        mine = max(now, self._next)
        self._next = mine + self._gap_s
        await asyncio.sleep(mine - now)

    def close_for(self, wait_s: float) -> None:
        self._closed_until = max(self._closed_until, time.monotonic() + wait_s)


def _checked(url: str) -> str:
    """`url` without its last slash. raises ConfigError: not https, unless it stays on this machine."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    on_this_machine = parsed.host in ("localhost", "127.0.0.1", "::1")
    if not parsed.host or not (parsed.scheme == "https" or (parsed.scheme == "http" and on_this_machine)):
        raise ConfigError(
            _("wrong value for `{key}`: {value}").format(key="tickets.url", value=url),
            why=_("the secret of the API client may only travel by https"),
            fix=_("give the host of your region, e.g. https://eu.ninjarmm.com"),
        )
    return url.rstrip("/")


def _seen(problem: httpx.RequestError) -> str:
    if isinstance(problem, httpx.TimeoutException):
        return _("no answer in time")
    return str(problem) or type(problem).__name__


def _json(response: httpx.Response) -> dict[str, Any] | list[Any] | None:
    """The document, or None for what is none: an HTML page, nothing, a bare word."""
    try:
        document = response.json()
    except ValueError:
        return None
    return document if isinstance(document, dict | list) else None


def _words(response: httpx.Response) -> str:
    """The vendor's own words, from any of its three shapes of error, on one line."""
    document = _json(response)
    found: list[str] = []
    if isinstance(document, dict):
        names = ("resultCode", "errorMessage", "errorCode", "message", "error", "error_description")
        # A set would lose the order; two fields often say the same.
        found = list(dict.fromkeys(str(document[name]) for name in names if document.get(name)))
    said = " - ".join(found) or response.headers.get("Content-Type", "").partition(";")[0]
    return f"HTTP {response.status_code} {' '.join(said.split())[:WORDS_MAX]}".strip()


def _incident(response: httpx.Response) -> str:
    document = _json(response)
    incident = document.get("incidentId") if isinstance(document, dict) else None
    return f"incident {incident or '-'}, request {response.headers.get('x-nj-request-id', '-')}"


def _rejection(response: httpx.Response) -> Rejected:
    said = _words(response)
    if "user_context_required" in said.lower():
        return Rejected(
            _("this NinjaOne lets only a person's connection make tickets, not an API client by itself"),
            why=said,
            fix=_(
                'docs/tickets.md, "client credentials", says what to do until such a connection can be made'
            ),
        )
    if response.status_code in (401, 403):
        return Rejected(
            _("NinjaOne does not let this API client do that"),
            why=said,
            fix=_("give it the scopes monitoring and management, and a role that may make tickets"),
        )
    kind = NotThere if response.status_code == 404 else Rejected
    return kind(
        _("NinjaOne rejects the request"), why=said, fix=_("compare [tickets] with what the words name")
    )


def _cure(response: httpx.Response) -> str:
    if response.status_code == 404:
        # Asked in another region, NinjaOne says that the client does not exist.
        return _("check `tickets.url`: the host must be your own region's; then `tickets.client_id`")
    return _("check `tickets.client_id` and `tickets.client_secret`")


def _retry_after_s(response: httpx.Response) -> float:
    # Only the form in seconds: a date would trust two clocks.
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else THROTTLED_S
