"""A form of several parts (RFC 7578), read as it comes and never held.

ingest.py knows what the parts mean. The parser is that of the package `multipart`; bounds and words are ours.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from whisperagent.i18n import _
from whisperserver.refusals import BadRequest, WrongKind

PARTS_MAX = 16


@dataclass(frozen=True)
class Part:
    """A part begins; its bytes follow."""

    name: str


async def read(content_type: str, body: AsyncIterator[bytes]) -> AsyncGenerator[Part | bytes]:
    """The parts of a form, each followed by its bytes in pieces.

    content_type: the header of the request.
    raises WrongKind: it is no form. BadRequest: the form is broken, or ends before its end.
    """
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data":
        raise WrongKind(
            _("a recording is sent as a form"),
            why=_("the request is `{kind}`, not `multipart/form-data`").format(kind=kind or _("of no kind")),
            fix=_("`curl -F recording=@call.wav -F metadata=…` sends one"),
        )
    if not (boundary := options.get("boundary")):
        raise BadRequest(_("the form does not say where its parts end"), why=_("it has no `boundary`"))
    try:
        parser = PushMultipartParser(boundary, max_segment_count=PARTS_MAX)
        async for chunk in body:
            if chunk:  # an empty one means the end to the parser
                for event in parser.parse(chunk):
                    if isinstance(event, MultipartSegment):
                        yield Part(event.name or "")
                    elif event:
                        yield event
        parser.close()
    except MultipartError as problem:
        raise BadRequest(
            _("the form is broken, or was cut short"),
            why=str(problem.args[0]),
            fix=_("send it again; if this comes back, see what lies between sender and server"),
        ) from None
