"""Who is asking.

Until PCs can be enrolled there are two ways, and `serve.signing_key` decides:

* with one: `Authorization: Bearer` with a token of `wa server token`. Beyond loopback the server does not
  start without; on loopback a proxy of this machine may pass everybody on, so tokens are asked for there too.
* without, so on loopback: the header `X-Extension` alone, since only programs of this machine can ask. A
  request that a proxy says it passed on, or that names another host, comes from elsewhere and is refused:
  that would be how a proxy, or a page in a browser (DNS rebinding), gets past the address.

A token, where one is given, is always checked, and the extension it was made for is who asks; another one in
`X-Extension` is refused.
"""

import ipaddress
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.types import ASGIApp, Receive, Scope, Send

from whisperagent import wire
from whisperagent.errors import ConfigError, NotAuthenticated, WhisperError
from whisperagent.i18n import _
from whisperagent.settings import Serve
from whisperserver import problems
from whisperserver.refusals import Forbidden

ALGORITHM = "HS256"
AUDIENCE = "whisperagent"
KEY_BYTES = 32
LEEWAY = timedelta(seconds=30)
PUBLIC = "public"
"""The option of a route that asks for no credential."""

PROXY_HEADERS = ("x-forwarded-for", "forwarded", "x-real-ip", "via")


@dataclass(frozen=True)
class Caller:
    """extension: as the credential says, never as a body claims."""

    extension: str

    def must_be(self, extension: str) -> None:
        """raises Forbidden: what is sent is in another one's name."""
        if extension != self.extension:
            raise Forbidden(
                _("this is in the name of extension {other}").format(other=extension),
                why=_("you are extension {own}").format(own=self.extension),
            )


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_bind(serve: Serve) -> None:
    """raises ConfigError: the server would listen beyond loopback without a way to know who asks."""
    if serve.signing_key:
        _signing_key(serve)
    elif not is_loopback(serve.host):
        raise ConfigError(
            _("the server may not listen on {host} without a signing key").format(host=serve.host),
            why=_("beyond this machine everybody could send calls in anybody's name"),
            fix=_(
                "`openssl rand -hex 32 | wa config set serve.signing_key -`, then for each PC: "
                "`wa server token EXTENSION`"
            ),
        )


def make_token(serve: Serve, extension: str, days: float) -> str:
    """A token for one extension. raises ConfigError: there is no signing key, or it is too short."""
    now = datetime.now(UTC)
    claims = {
        "aud": AUDIENCE,
        "ext": extension,
        "iat": now,
        "exp": now + timedelta(days=days),
        "jti": secrets.token_hex(8),
    }
    return jwt.encode(claims, _signing_key(serve), ALGORITHM)


def _signing_key(serve: Serve) -> str:
    if len(serve.signing_key.encode()) < KEY_BYTES:
        raise ConfigError(
            _("the signing key is too short") if serve.signing_key else _("there is no signing key"),
            why=_("`serve.signing_key` needs {count} bytes or more").format(count=KEY_BYTES),
            fix=_("`openssl rand -hex 32 | wa config set serve.signing_key -`"),
        )
    return serve.signing_key


class Authentication(AbstractAuthenticationMiddleware):
    """Puts a `Caller` on every request and websocket but those of public routes."""

    def __init__(self, app: ASGIApp, serve: Serve) -> None:
        super().__init__(app, exclude_from_auth_key=PUBLIC)
        self._serve = serve
        self._local = is_loopback(serve.host) and not serve.signing_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except WhisperError as problem:
            if scope["type"] != ScopeType.WEBSOCKET:
                raise
            await problems.refuse_socket(scope, send, problem)

    async def authenticate_request(
        self, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> AuthenticationResult:
        _refuse_foreign_page(connection)
        named = connection.headers.get(wire.EXTENSION_HEADER, "")
        scheme, _blank, token = connection.headers.get("authorization", "").partition(" ")
        if token and scheme.lower() == "bearer":
            caller = Caller(self._extension_of(token.strip()))
            if named and named != caller.extension:
                caller.must_be(named)
        elif self._local:
            caller = Caller(_named_locally(connection, named))
        else:
            raise NotAuthenticated(
                _("this server needs a token"),
                fix=_(
                    "ask for one: `wa server token EXTENSION`; the PC takes it as `WA_TOKEN` "
                    "or from its file `token`"
                ),
            )
        return AuthenticationResult(user=caller, auth=None)

    def _extension_of(self, token: str) -> str:
        refused = NotAuthenticated(
            _("this token is not valid"),
            why=_("it is expired, of another server, or was never made by one"),
            fix=_("ask for a new one: `wa server token EXTENSION`"),
        )
        if not self._serve.signing_key:
            raise refused
        try:
            claims = jwt.decode(
                token,
                self._serve.signing_key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                leeway=LEEWAY,
                options={"require": ["ext", "iat", "exp", "jti", "aud"]},
            )
        except jwt.InvalidTokenError:
            raise refused from None
        return str(claims["ext"])


def _refuse_foreign_page(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """A browser names the page that asks; only a page of this very server may, and there is none yet."""
    origin = connection.headers.get("origin")
    host = connection.headers.get("host", "")
    if origin is not None and origin.partition("://")[2] != host:
        raise Forbidden(_("a page of {origin} may not ask this server").format(origin=origin))


def _named_locally(connection: ASGIConnection[Any, Any, Any, Any], named: str) -> str:
    host = re.sub(r":\d+$", "", connection.headers.get("host", "")).strip("[]")
    if any(name in connection.headers for name in PROXY_HEADERS) or not is_loopback(host):
        raise NotAuthenticated(
            _("this server knows only callers of its own machine without a token"),
            why=_("the request came by a proxy, or by another name than this machine's"),
            fix=_("set `serve.signing_key` and give each PC a token: `wa server token EXTENSION`"),
        )
    if not re.fullmatch(r"[0-9A-Za-z._-]{1,32}", named):
        raise NotAuthenticated(
            _("the request does not say which extension it comes from"),
            why=_("the header `{header}` is missing or not an extension").format(
                header=wire.EXTENSION_HEADER
            ),
            fix=_("send `{header}: 201`, with your own extension").format(header=wire.EXTENSION_HEADER),
        )
    return named
