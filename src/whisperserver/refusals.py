"""What the server says no to, in words of the matter; problems.py gives each its HTTP status, once."""

from whisperagent.errors import WhisperError


class BadRequest(WhisperError):
    """A request that cannot be understood."""


class Forbidden(WhisperError):
    """Known, but not allowed: trying again helps nobody."""


class NotFound(WhisperError):
    """There is no such thing."""


class Conflict(WhisperError):
    """Someone else was first, or the call is not where this step begins."""


class Gone(WhisperError):
    """It was here, and was erased on purpose."""


class TooLarge(WhisperError):
    """More bytes than `serve.max_upload_mb`."""


class WrongKind(WhisperError):
    """Bytes of a kind that is not taken, or not given."""


class Lying(WhisperError):
    """Bytes and what is said about them do not agree."""


class Stopping(WhisperError):
    """The server ends before it could answer; the next one can."""


class OtherProtocol(WhisperError):
    """Another version of the protocol of resumable uploads than ours."""


class InUse(WhisperError):
    """Somebody else writes to it at this moment."""


class WrongOffset(WhisperError):
    """Bytes that do not join those that are here. offset: where the next ones belong."""

    def __init__(self, what: str, *, offset: int, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.offset = offset


class WrongChecksum(WhisperError):
    """Bytes that were changed on their way."""


class TooMany(WhisperError):
    """More at once than one extension may."""


class NotSent(WhisperError):
    """The rest of the request does not come."""


class NoSuchRange(WhisperError):
    """A range that begins after the end. length: of the whole, in bytes."""

    def __init__(self, what: str, *, length: int, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.length = length
