"""Resumable uploads by tus 1.0.0 (https://tus.io/protocols/resumable-upload). resumable.py does the work."""

import base64
import binascii
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Annotated, Any, Literal

from litestar import (
    Controller,
    HttpMethod,
    MediaType,
    Request,
    Response,
    delete,
    get,
    head,
    patch,
    post,
    route,
)
from litestar.connection import ASGIConnection
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import FromPath, HeaderParameter
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED, HTTP_204_NO_CONTENT

from whisperagent import wire
from whisperagent.errors import WhisperError
from whisperagent.i18n import _
from whisperserver import problems
from whisperserver.api import answers, bodies, uploads
from whisperserver.auth import PUBLIC, Caller
from whisperserver.refusals import BadRequest, OtherProtocol, WrongKind
from whisperserver.resumable import Checksum, Progress, Resumable
from whisperserver.services import Services

EXTENSIONS = "creation,creation-defer-length,expiration,checksum,termination"
ALGORITHMS: tuple[Literal["sha256", "sha1"], ...] = ("sha256", "sha1")
PIECE = "application/offset+octet-stream"


Version = Annotated[str, HeaderParameter(name="Tus-Resumable", description="`1.0.0`")]
Length = Annotated[
    int | None, HeaderParameter(name="Upload-Length", ge=0, description="Bytes of the whole recording.")
]
Deferred = Annotated[
    Literal["1"] | None,
    HeaderParameter(name="Upload-Defer-Length", description="`1`: the length is said later."),
]
Offset = Annotated[int, HeaderParameter(name="Upload-Offset", ge=0, description="Where these bytes begin.")]
Said = Annotated[
    str,
    HeaderParameter(
        name="Upload-Metadata",
        description="`metadata` and `CallMetadata` as JSON in base64; other keys are ignored.",
    ),
]
Sum = Annotated[
    str,
    HeaderParameter(
        name="Upload-Checksum", description="`sha256` or `sha1`, and that of the body in base64."
    ),
]

MEANINGS = {
    408: "The rest of the body did not come; what came is kept.",
    409: "The bytes do not join those that are here, or the recording is here with other bytes.",
    410: "The call was erased.",
    412: "`Tus-Resumable` is not `1.0.0`.",
    423: "Another request sends to this upload.",
    429: "This extension has too many uploads under way.",
    460: "Other bytes came than were sent; what their checksum was of is not kept.",
}


@dataclass
class PieceOperation(Operation):
    """The body, which Litestar cannot see: the handler reads the stream and has no `data`."""

    def __post_init__(self) -> None:
        piece = Schema(
            type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY, description="Sealed bytes (SREC v1)."
        )
        self.request_body = RequestBody(required=True, content={PIECE: OpenAPIMediaType(schema=piece)})


def _tus_only(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """raises OtherProtocol: the request is not of the version that we speak. A receipt is no part of tus."""
    if connection.scope["method"] in ("GET", "OPTIONS"):  # type: ignore[typeddict-item]
        return
    given = connection.headers.get("tus-resumable", "")
    if given != wire.TUS_VERSION:
        raise OtherProtocol(
            _("this server speaks tus {version}").format(version=wire.TUS_VERSION),
            why=_("the request has `Tus-Resumable: {given}`").format(given=given)
            if given
            else _("the request has no `Tus-Resumable`"),
        )


def _refused(request: Request[Any, Any, Any], problem: WhisperError) -> Response[bytes]:
    answer = problems.answer(request, problem)
    answer.headers["tus-resumable"] = wire.TUS_VERSION
    return answer


def _errors(*statuses: int) -> dict[int, ResponseSpec]:
    return answers.errors(412, *statuses, meanings=uploads.MEANINGS | MEANINGS)


def _moved(progress: Progress, **more: str) -> dict[str, str]:
    """The headers that say how far an upload is."""
    headers = {"upload-offset": str(progress.offset), **more}
    if progress.expires_at:
        headers["upload-expires"] = format_datetime(progress.expires_at, usegmt=True)
    return headers


class ResumableController(Controller):
    path = wire.UPLOADS
    tags = ("uploads",)
    guards = (_tus_only,)
    exception_handlers = {WhisperError: _refused}
    response_headers = (ResponseHeader(name="Tus-Resumable", value=wire.TUS_VERSION),)

    # Its name has to be the first of the class: where it is not, Litestar has already made one of its own.
    @route(
        ["/", "/{name:str}"], http_method=[HttpMethod.OPTIONS], include_in_schema=False, opt={PUBLIC: True}
    )
    async def abilities(self, resumable: NamedDependency[Resumable]) -> Response[None]:
        """What of tus this server can do."""
        headers = {
            "tus-version": wire.TUS_VERSION,
            "tus-extension": EXTENSIONS,
            "tus-max-size": str(resumable.max_bytes),
            "tus-checksum-algorithm": ",".join(ALGORITHMS),
        }
        return Response(None, status_code=HTTP_204_NO_CONTENT, headers=headers)

    @post(
        "/",
        status_code=HTTP_201_CREATED,
        summary="Begin an upload in pieces, or find it again",
        responses={
            201: ResponseSpec(
                None, description="`Location`: where its bytes go. `Upload-Offset`: how many are here."
            ),
            **_errors(400, 409, 410, 413, 423, 429, 507),
        },
    )
    async def create(
        self,
        request: Request[Caller, Any, Any],
        resumable: NamedDependency[Resumable],
        metadata: Said,
        length: Length = None,
        deferred: Deferred = None,
        version: Version = "",
    ) -> Response[None]:
        """An upload is of one part of a call: the same part again finds what came of it, and loses nothing. A
        part that is stored already is answered as one of which nothing is missing.
        """
        if (length is None) != (deferred is not None):
            raise BadRequest(_("an upload has either `Upload-Length` or `Upload-Defer-Length: 1`"))
        said = _metadata(metadata)
        if said is None:
            raise BadRequest(
                _("the upload has no metadata"), fix=_("send `Upload-Metadata: metadata …`, JSON in base64")
            )
        name, progress = await resumable.create(request.user, said, length)
        where = f"{wire.UPLOADS}/{name}"
        return Response(
            None,
            status_code=HTTP_201_CREATED,
            media_type=MediaType.TEXT,
            headers=_moved(progress, location=where),
        )

    @head(
        "/{name:str}",
        summary="How far an upload is",
        responses={
            200: ResponseSpec(None, description="`Upload-Offset`: bytes that are here and synced."),
            **_errors(404, 410, 413, 415, 422, 460, 507),
        },
    )
    async def look(
        self,
        name: FromPath[str],
        request: Request[Caller, Any, Any],
        resumable: NamedDependency[Resumable],
        services: NamedDependency[Services],
        version: Version = "",
    ) -> Response[None]:
        """`Upload-Offset` is equal to `Upload-Length` only if the recording is stored."""
        progress = await resumable.look(request.user, name)
        _count(progress, services)
        length = (
            {"upload-defer-length": "1"}
            if progress.length is None
            else {"upload-length": str(progress.length)}
        )
        return Response(
            None,
            media_type=MediaType.TEXT,
            headers=_moved(progress, **length, **{"cache-control": "no-store"}),
        )

    @patch(
        "/{name:str}",
        status_code=HTTP_204_NO_CONTENT,
        operation_class=PieceOperation,
        summary="Send bytes of an upload",
        # Counted by what is left of the recording, which is not known where this decorator runs.
        request_max_body_size=None,
        responses={
            204: ResponseSpec(
                None, description="Here and synced. `Upload-Offset`: how many bytes there are."
            ),
            **_errors(400, 404, 408, 409, 410, 413, 415, 422, 423, 429, 460, 507),
        },
    )
    async def append(
        self,
        name: FromPath[str],
        request: Request[Caller, Any, Any],
        resumable: NamedDependency[Resumable],
        services: NamedDependency[Services],
        offset: Offset,
        length: Length = None,
        metadata: Said = "",
        checksum: Sum = "",
        version: Version = "",
    ) -> Response[None]:
        """Whatever breaks, the bytes that came are kept; ask for the offset and go on from there. The piece
        that completes the recording is answered when it is checked, stored and synced; if the whole is
        refused, the upload is gone. `Upload-Length` may come with any piece of an upload that was begun
        without, and `Upload-Metadata` beside it says anew what is known of the call.
        """
        kind = request.headers.get("content-type", "")
        if kind != PIECE:
            raise WrongKind(
                _("this is no piece of an upload"),
                why=_("the request is `{kind}`, not `{wanted}`").format(
                    kind=kind or _("of no kind"), wanted=PIECE
                ),
            )
        progress = await resumable.append(
            request.user,
            name,
            offset,
            bodies.pieces(request),
            coming=request.content_length,
            length=length,
            said=_metadata(metadata),
            checksum=_checksum(checksum),
        )
        _count(progress, services)
        return Response(None, status_code=HTTP_204_NO_CONTENT, headers=_moved(progress))

    @get(
        "/{name:str}",
        status_code=HTTP_200_OK,
        summary="The receipt of a recording",
        responses={
            200: answers.good(wire.UploadAnswer, answers.RECEIPT, "Stored and synced, with this SHA-256."),
            **answers.errors(404, 410),
        },
    )
    async def receipt(
        self, name: FromPath[str], request: Request[Caller, Any, Any], resumable: NamedDependency[Resumable]
    ) -> wire.UploadAnswer:
        """What the server has of this part of a call. The PC may forget its own recording once this is what
        it sent. It is the same for a recording that came as a form.
        """
        return await resumable.receipt(request.user, name)

    @delete(
        "/{name:str}",
        summary="Give up an upload",
        responses={
            204: ResponseSpec(None, description="What came of it is destroyed."),
            **_errors(404, 409, 410),
        },
    )
    async def terminate(
        self,
        name: FromPath[str],
        request: Request[Caller, Any, Any],
        resumable: NamedDependency[Resumable],
        version: Version = "",
    ) -> None:
        """Destroy an upload that is not finished. One that is stored is refused with 409: erase its call."""
        await resumable.terminate(request.user, name)


def _metadata(header: str) -> bytes | None:
    """The value of the key `metadata`: JSON; None if there is none. raises BadRequest: not base64."""
    for pair in header.split(","):
        key, _blank, value = pair.strip().partition(" ")
        if key == "metadata":
            return _decoded(value, "Upload-Metadata")
    return None


def _checksum(header: str) -> Checksum | None:
    name, _blank, value = header.strip().partition(" ")
    if not name:
        return None
    for algorithm in ALGORITHMS:
        if name == algorithm:
            return Checksum(algorithm, _decoded(value, "Upload-Checksum"))
    raise BadRequest(
        _("the checksum `{name}` is not known here").format(name=name),
        fix=_("use one of {names}").format(names=", ".join(ALGORITHMS)),
    )


def _decoded(value: str, header: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(_("`{header}` is not base64").format(header=header)) from None


def _count(progress: Progress, services: Services) -> None:
    if progress.received:
        services.metrics.uploads.labels("stored" if progress.received.fresh else "repeated", "pieces").inc()
