"""Uploads: a recording and what is known of it, in one form. ingest.py does the work."""

from dataclasses import dataclass
from typing import Any

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Encoding,
    Example,
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED

from whisperagent import wire
from whisperserver.api import answers, bodies
from whisperserver.auth import Caller
from whisperserver.ingest import Ingest

CALL = "01980f2e-7a3b-7c41-9d52-3f6a8b1c2d4e"
METADATA: dict[str, Any] = {
    "call_id": CALL,
    "extension": "201",
    "started_at": "2026-01-05T09:00:00Z",
    "remote_party": "+33612345678",
}
ANSWER = {
    "call_id": CALL,
    "part": 1,
    "state": "received",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "size": 1_920_044,
    "status_url": f"{wire.TRANSCRIPTION_STATUS}/{CALL}",
}

MEANINGS = {
    408: "The sender went away before the end.",
    415: "It is no recording of a kind that is taken, or one that is sealed for another server.",
    422: "The recording is not what the metadata says, or is damaged.",
    507: "The server's disk is too full.",
}

FORM = Schema(
    type=OpenAPIType.OBJECT,
    required=["recording", "metadata"],
    properties={
        "recording": Schema(
            type=OpenAPIType.STRING,
            format=OpenAPIFormat.BINARY,
            description="A sealed recording (SREC v1); or WAV, FLAC or Ogg Opus, sealed on arrival.",
        ),
        "metadata": Schema(
            type=OpenAPIType.OBJECT,
            required=["call_id", "extension", "started_at"],
            description="`CallMetadata` as JSON. Channels, rate and length are taken from the sound itself.",
            properties={
                "call_id": Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.UUID),
                "extension": Schema(type=OpenAPIType.STRING),
                "started_at": Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME),
            },
        ),
    },
)


@dataclass
class UploadOperation(Operation):
    """The body, which Litestar cannot see: the handler reads the stream and has no `data`."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            required=True,
            content={
                "multipart/form-data": OpenAPIMediaType(
                    schema=FORM,
                    encoding={
                        "recording": Encoding(content_type="application/octet-stream"),
                        "metadata": Encoding(content_type="application/json"),
                    },
                    examples={
                        "wav": Example(
                            summary="curl -H 'X-Extension: 201' -F recording=@call.wav -F metadata='{…}'",
                            value={"recording": "(the bytes of call.wav)", "metadata": METADATA},
                        )
                    },
                )
            },
        )


class UploadsController(Controller):
    path = wire.UPLOAD_RECORDING
    tags = ("uploads",)

    @post(
        status_code=HTTP_202_ACCEPTED,
        operation_class=UploadOperation,
        operation_id="UploadRecording",
        summary="Send one part of a call",
        # Ingest counts, by `serve.max_upload_mb`, which is not known yet where this decorator runs.
        request_max_body_size=None,
        response_description="Stored and synced; the call waits to be transcribed",
        responses={
            HTTP_200_OK: ResponseSpec(
                wire.UploadAnswer,
                description="It was stored before: nothing has changed",
                generate_examples=False,
                examples=[Example(summary="example", value=ANSWER)],
            ),
            **answers.errors(400, 408, 409, 410, 413, 415, 422, 507, meanings=MEANINGS),
        },
    )
    async def upload(
        self, request: Request[Caller, Any, Any], ingest: NamedDependency[Ingest]
    ) -> Response[wire.UploadAnswer]:
        """Store a recording. The same `call_id` and `part` with the same bytes is answered with 200 and
        changes nothing; with other bytes, 409. A 2xx means: stored, synced, and sealed to the server's key.
        """
        received = await ingest.receive(
            request.user,
            request.headers.get("content-type", ""),
            bodies.pieces(request),
            request.content_length,
        )
        status = HTTP_202_ACCEPTED if received.fresh else HTTP_200_OK
        return Response(received.answer, status_code=status)
