"""Every error a person may see: what, why, what to do, and the exit code.

    WhisperError                1
    ├── UsageError              2   the command line, or a file that is not what was asked for
    │   └── NotInstalled        2   an extra that is not there
    ├── ConfigError             2   config.toml, WA_* or a flag
    ├── ServerUnreachable       3   no answer: worth trying again
    ├── NotAuthenticated        4   401 and 403: trying again helps nobody
    ├── ServerRefused           1   any other 4xx, with the server's own words
    ├── AlreadyRunning          1
    ├── NoAgent                 1   nobody is there to obey
    ├── HostUnavailable         1   this PC cannot give a signal or a sound
    ├── NoRoom                  1   the disk is too full to record or to store
    ├── SealedError             1   bytes that are not an authentic sealed recording
    ├── AudioError              1   sound that cannot be decoded, or is not what was declared
    ├── SpeechUnavailable       1   the speech model cannot be loaded
    └── TicketError             1   what the ticket system answered (whisperserver.tickets)

A message is lower case, without a full stop, in the reader's language. `console` draws it; the
server's `problems` turns it into problem details (RFC 9457).
"""

from whisperagent.i18n import _


class WhisperError(Exception):
    """Base of every error with words for a person.

    what: what went wrong, e.g. `cannot reach http://10.0.0.5:3002`.
    why: what was seen, e.g. `the connection was refused`.
    fix: what to do, e.g. ``run `wa doctor` ``.
    """

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def in_words(self) -> str:
        """All of it on one line: `what: why; what to do`."""
        seen = _("{what}: {why}").format(what=self.what, why=self.why) if self.why else self.what
        return f"{seen}; {self.fix}" if self.fix else seen


class UsageError(WhisperError):
    exit_code = 2


class NotInstalled(UsageError):
    """A part of the product that an extra brings."""


class ConfigError(WhisperError):
    exit_code = 2


class ServerUnreachable(WhisperError):
    """No answer, or one that says to come back (408, 413, 425, 429, 5xx).

    retry_after_s: how long the server asked to be left alone, 0 when it did not say.
    """

    exit_code = 3

    def __init__(self, what: str, *, why: str = "", fix: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(what, why=why, fix=fix)
        self.retry_after_s = retry_after_s


class NotAuthenticated(WhisperError):
    exit_code = 4


class ServerRefused(WhisperError):
    """The server understood and said no.

    status: the HTTP status, e.g. 409.
    """

    def __init__(self, what: str, *, status: int, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.status = status


class AlreadyRunning(WhisperError):
    """Another process holds the lock of this home."""


class NoAgent(WhisperError):
    """No agent runs in this home, or it does not answer."""


class HostUnavailable(WhisperError):
    """This PC cannot give a signal or a sound that recording needs."""


class NoRoom(WhisperError):
    """Less free disk than the floor in the settings."""


class SealedError(WhisperError):
    """Bytes that are not an authentic sealed recording: one error, no oracle about which check failed."""


class AudioError(WhisperError):
    """Sound that cannot be decoded, or is not what its metadata says."""


class SpeechUnavailable(WhisperError):
    """The speech model is missing or broken."""


class TicketError(WhisperError):
    """The ticket system did not make the ticket, or did not say whether it did."""
