"""The body of a request, as it comes."""

from collections.abc import AsyncGenerator
from typing import Any

from litestar import Request
from litestar.exceptions import InternalServerException

from whisperagent.i18n import _
from whisperserver.auth import Caller
from whisperserver.refusals import NotSent


async def pieces(request: Request[Caller, Any, Any]) -> AsyncGenerator[bytes]:
    """raises NotSent: the sender went away."""
    try:
        async for piece in request.stream():
            yield piece
    except InternalServerException:
        # Litestar's word for a client that went away; nobody is left to read ours but the log.
        raise NotSent(_("the upload broke off"), why=_("the sender closed the connection")) from None
