"""Settings: flag > `WA_*` environment > `config.toml` > the PC's own `config.toml` > default; and where
everything lies.

One file serves the PC and the server; each reads its own sections. A key nobody knows or a value of
the wrong type is an error with the file, the key and the nearest name, never silently ignored.
`WA_UPLOAD__RETRY_S=60` is `retry_s` under `[upload]`; `WA_HOME` moves every file.
"""

import os
import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from whisperagent import files
from whisperagent.errors import ConfigError
from whisperagent.i18n import _, use
from whisperagent.wire import END

ENV_PREFIX = "WA_"
NOT_SETTINGS = ("WA_HOME", "WA_CONFIG", "WA_TOKEN", "WA_DEBUG")
"""Variables with our prefix that name a place or carry a secret."""
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^\s/:@?#\[\]]+)"
_PORT = r"(:[0-9]{1,5})?/?"
_URL = rf"^(https?://{_HOST}{_PORT})?"
"""Or empty."""
_SAFE_URL = rf"^((https://{_HOST}|http://(127\.0\.0\.1|localhost)){_PORT})?"
"""Encrypted on its way, or not on any way at all; or empty."""
SECRETS = ("serve.signing_key", "tickets.client_secret", "callcontrol.client_secret")
"""Settings that are never shown."""
LISTS = ("accounts",)
"""Sections that may stand there several times, as `[[accounts]]`."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Agent(Section, frozen=True):
    """Who sits at this PC. notify: say on the desktop what needs the person there."""

    extension: Annotated[str, Meta(pattern=r"^[0-9A-Za-z._-]{0,32}" + END, examples=["201"])] = ""
    name: str = ""
    notify: bool = True


class Account(Section, frozen=True):
    """One of several 3CX accounts. patterns: of the titles that show a call to be this account's."""

    extension: Annotated[str, Meta(pattern=r"^[0-9A-Za-z._-]{1,32}" + END, examples=["201"])]
    name: str = ""
    patterns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.extension} {self.name}".rstrip()


class Server(Section, frozen=True):
    """The server that this PC sends to. url: empty where there is none, and calls stay on the PC.

    key: its public key in base64, pinned; else the first one seen is.
    """

    url: Annotated[str, Meta(pattern=_URL + END, examples=["http://192.168.1.100:3002"])] = (
        "http://127.0.0.1:3002"
    )
    key: str = ""
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 30.0


class Detection(Section, frozen=True):
    """What counts as a call. Patterns are regular expressions, without regard to case."""

    processes: tuple[str, ...] = ("3CXSoftphone", "3CXDesktopApp", "3CXWin8Phone", "3CXPhone", "3cx.*")
    titles: tuple[str, ...] = ("Call with", "Appel avec")
    browsers: tuple[str, ...] = ("chrome", "msedge", "firefox")
    pbx: str = ""
    log_files: tuple[str, ...] = ()
    log_connected: str = ""
    log_ended: str = ""
    poll_s: Annotated[float, Meta(ge=0.05, le=10)] = 0.5
    confirm_s: Annotated[float, Meta(ge=0, le=60)] = 1.0
    end_s: Annotated[float, Meta(ge=0.5, le=60)] = 3.0
    resume_s: Annotated[float, Meta(ge=0, le=120)] = 10.0
    hold_limit_s: Annotated[float, Meta(ge=10)] = 600.0
    silence_limit_s: Annotated[float, Meta(ge=60)] = 1800.0


class CallControl(Section, frozen=True):
    """3CX's Call Control API, which tells the exact state of calls; off without `url`.

    extension: whose calls are followed; empty: `agent.extension`.
    """

    url: Annotated[str, Meta(pattern=_SAFE_URL + END, examples=["https://pbx.example.com"])] = ""
    client_id: str = ""
    client_secret: str = ""
    extension: Annotated[str, Meta(pattern=r"^[0-9A-Za-z._-]{0,32}" + END, examples=["201"])] = ""


class Recording(Section, frozen=True):
    """layout: `split` keeps the two sides apart, `mono` mixes them. codec: how sound is sealed and sent.

    microphone: a device's id or name; empty: the softphone's, else the default one.
    silent_alarm_s: a side that is silent for so long during a call is told of; 0 never tells.
    local_key: a key of this PC opens recordings as well as the server's.
    quota_mib: what all recordings may take; 0: any. ballast_mib: kept free to end a call on a full disk.
    """

    layout: Literal["split", "mono"] = "split"
    codec: Literal["flac", "opus", "pcm"] = "flac"
    microphone: str = ""
    caller: Literal["auto", "process", "endpoint", "sox"] = "auto"
    pre_roll_s: Annotated[float, Meta(ge=0, le=30)] = 0.0
    min_s: Annotated[float, Meta(ge=0)] = 5.0
    max_s: Annotated[float, Meta(ge=60)] = 4 * 3600.0
    silent_alarm_s: Annotated[float, Meta(ge=0)] = 20.0
    part_mib: Annotated[int, Meta(ge=1, le=95)] = 64
    free_mib: Annotated[int, Meta(ge=0)] = 512
    local_key: bool = False
    quota_mib: Annotated[int, Meta(ge=0)] = 10_240
    ballast_mib: Annotated[int, Meta(ge=0, le=1024)] = 64


class Upload(Section, frozen=True):
    """retry_s: first wait after a failure, doubled up to `retry_max_s`. keep_days: for what is sent.

    on_expiry: what becomes of what was not sent within these days.
    """

    retry_s: Annotated[float, Meta(gt=0)] = 300.0
    retry_max_s: Annotated[float, Meta(gt=0)] = 3600.0
    keep_days: Annotated[float, Meta(ge=0)] = 7.0
    on_expiry: Literal["keep", "delete_with_notice"] = "keep"


class Offline(Section, frozen=True):
    """Calls are drafted on this PC while the server is away. after_s: for how long it must be.

    model: as `speech.model`, a small one. threads: as `speech.threads`.
    """

    enabled: bool = False
    after_s: Annotated[float, Meta(ge=0)] = 600.0
    model: str = "small"
    threads: Annotated[int, Meta(ge=0, le=256)] = 2


class Ui(Section, frozen=True):
    """keymap: binding id = key, e.g. `approve = "ctrl+y"`."""

    language: Literal["auto", "en", "fr"] = "auto"
    theme: str = ""
    keymap: dict[str, str] = {}


class Serve(Section, frozen=True):
    """The server process. signing_key: makes and checks tokens; needed beyond loopback.

    unfinished_uploads, unfinished_mb: what one extension may have under way. unfinished_days: how long an
    upload that nobody goes on with is kept.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 3002
    database: str = ""
    storage: str = ""
    signing_key: str = ""
    max_upload_mb: Annotated[int, Meta(ge=1, le=4096)] = 100
    max_resumable_mb: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    unfinished_uploads: Annotated[int, Meta(ge=1)] = 32
    unfinished_mb: Annotated[int, Meta(ge=1)] = 4000
    unfinished_days: Annotated[float, Meta(gt=0)] = 7.0
    workers: Annotated[int, Meta(ge=0, le=64)] = 1
    free_mib: Annotated[int, Meta(ge=0)] = 512


class Speech(Section, frozen=True):
    """model: a folder, or a name such as `large-v3-turbo` fetched by `wa server model pull`."""

    model: str = "large-v3-turbo"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute_type: str = "auto"
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    languages: tuple[str, ...] = ("fr", "en")
    beam_size: Annotated[int, Meta(ge=1, le=20)] = 5
    max_hours: Annotated[float, Meta(gt=0)] = 5.0


class Tickets(Section, frozen=True):
    """NinjaOne: `url` of the region; organization and form to file under.

    Their numbers are in the answers to GET /v2/organizations and /v2/ticketing/ticket-form.
    board: where to look for a ticket whose answer was lost; 0 looks on every board. retry_s: the waits
    before each look (docs/tickets.md).
    """

    sink: Literal["none", "ninjaone"] = "none"
    url: str = "https://eu.ninjarmm.com"
    client_id: str = ""
    client_secret: str = ""
    organization: Annotated[int, Meta(ge=0)] = 0
    form: Annotated[int, Meta(ge=0)] = 0
    status: str = "1000"
    tags: tuple[str, ...] = ("appel-3cx",)
    board: Annotated[int, Meta(ge=0)] = 0
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 30.0
    retry_s: Annotated[tuple[float, ...], Meta(min_length=1)] = (60.0, 300.0, 900.0)


class Settings(Section, frozen=True):
    agent: Agent = Agent()
    accounts: tuple[Account, ...] = ()
    server: Server = Server()
    detection: Detection = Detection()
    callcontrol: CallControl = CallControl()
    recording: Recording = Recording()
    upload: Upload = Upload()
    offline: Offline = Offline()
    ui: Ui = Ui()
    serve: Serve = Serve()
    speech: Speech = Speech()
    tickets: Tickets = Tickets()


@dataclass(frozen=True)
class Paths:
    """Where everything lies on this machine.

    home: the agent's files and, on a server, `server/` with its database and recordings.
    shared: where an administrator may leave `config.toml` and `token` for everybody on this machine.
    """

    home: Path
    config: Path
    logs: Path
    shared: Path | None = None

    @property
    def spool(self) -> Path:
        return self.home / "spool"

    @property
    def status(self) -> Path:
        return self.home / "agent.json"

    @property
    def lock(self) -> Path:
        return self.home / "agent.lock"

    @property
    def control(self) -> Path:
        """Where the agent takes orders from other processes."""
        return self.home / "control"

    @property
    def server(self) -> Path:
        return self.home / "server"


@dataclass(frozen=True)
class Loaded:
    """source: `"upload.retry_s"` -> `"default"`, `"flag"`, `"WA_UPLOAD__RETRY_S"` or the file's path."""

    settings: Settings
    paths: Paths
    source: dict[str, str]


def paths() -> Paths:
    """`WA_HOME` when set (`WA_CONFIG` may name another config.toml), else the platform's own folders."""
    if home := os.environ.get("WA_HOME"):
        root = Path(home).expanduser().absolute()
        return Paths(root, _config_file(root / "config.toml"), root / "logs")
    import platformdirs  # only when needed: the tests and the demo always set WA_HOME

    folders = platformdirs.PlatformDirs("WhisperAgent", appauthor=False)
    config = _config_file(Path(folders.user_config_dir) / "config.toml")
    shared = Path(folders.site_config_dir)
    return Paths(Path(folders.user_data_dir), config, Path(folders.user_log_dir), shared)


def token() -> str:
    """What proves to the server who we are: `WA_TOKEN`, else the file `token` in the home or, on Windows,
    where the settings for everybody are; else nothing.

    raises ConfigError: the file cannot be read, or others on this PC can read it.
    """
    if given := os.environ.get("WA_TOKEN"):
        return given
    places = paths()
    where = places.home / "token"
    # For everybody means that others can read it: on Windows such a PC has one technician.
    if os.name == "nt" and places.shared is not None and not where.exists():
        where = places.shared / "token"
    try:
        open_to_others = os.name == "posix" and where.stat().st_mode & 0o077
        text = where.read_text("utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as problem:
        raise _unreadable(where, problem) from None
    if open_to_others:
        raise ConfigError(
            _("others on this PC can read {path}").format(path=where),
            why=_("it holds the token that the server trusts"),
            fix=_("`chmod 600 {path}`").format(path=where),
        )
    return text


def _config_file(default: Path) -> Path:
    named = os.environ.get("WA_CONFIG")
    return Path(named).expanduser().absolute() if named else default


def load(flags: dict[str, Any] | None = None) -> Loaded:
    """Read the settings of this machine.

    flags: `{"serve.port": 3003}`; None values are left out.
    raises ConfigError: not TOML, unknown key, wrong type, value out of range. A missing file is
    all defaults, unless `WA_CONFIG` names it.
    """
    where = paths()
    values: dict[str, Any] = {}
    source: dict[str, str] = {}
    if where.shared is not None:
        everybodys = where.shared / "config.toml"
        for key, value in _flatten(_parsed(everybodys, _text_of(everybodys) or "")):
            _put(values, source, key, value, str(everybodys))
    for key, value in _flatten(_read_file(where.config)):
        _put(values, source, key, value, str(where.config))
    for name, value in sorted(os.environ.items()):
        if name.startswith(ENV_PREFIX) and name not in NOT_SETTINGS:
            key = name.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            _put(values, source, key, _from_text(value, key), name)
    for key, value in (flags or {}).items():
        if value is not None:
            _put(values, source, key, value, _("the command line"))
    settings = _checked(values, source)
    use(settings.ui.language)
    return Loaded(settings, where, source)


def write(path: Path, key: str, text: str) -> Any:
    """Set `key` (`upload.retry_s`) in the file to `text`, keeping its comments; gives the value written.

    A new file is for its owner only; an old one keeps its mode, but for others' right to read a secret.
    raises ConfigError: as `load`, or the file cannot be written; it then stays as it was.
    """
    import tomlkit  # only `wa config set` writes

    section, _dot, name = key.partition(".")
    if section in LISTS:
        raise _written_by_hand(section, str(path))
    value = _from_text(text, key)
    content = _text_of(path) or ""
    values: dict[str, Any] = {}
    source: dict[str, str] = {}
    for known, old in _flatten(_parsed(path, content)):
        _put(values, source, known, old, str(path))
    _put(values, source, key, value, _("the command line"))
    _checked(values, source)
    document = tomlkit.parse(content)
    document.setdefault(section, tomlkit.table())[name] = value
    # Where config.toml is a link, as in a folder of dotfiles, the file behind it is replaced.
    target = path.resolve()
    mode = 0o600
    with suppress(OSError):
        mode = target.stat().st_mode & (0o770 if key in SECRETS else 0o777)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write(target, tomlkit.dumps(document).encode(), mode=mode)
    except OSError as problem:
        raise ConfigError(
            _("cannot write {path}").format(path=path),
            why=problem.strerror or str(problem),
            fix=_("make that place writable, or set WA_HOME to another one"),
        ) from None
    return value


def flat(settings: Settings) -> list[tuple[str, Any]]:
    """Every setting as (`"upload.retry_s"`, value), in the order of the classes above; a list is one."""
    pairs: list[tuple[str, Any]] = []
    for name in settings.__struct_fields__:
        section = getattr(settings, name)
        if name in LISTS:
            pairs.append((name, section))
        else:
            pairs += [(f"{name}.{field}", getattr(section, field)) for field in section.__struct_fields__]
    return pairs


def shown(key: str, value: Any) -> Any:
    """`value` as a person may see it: no secret, no password in an address."""
    if key in SECRETS:
        return "***" if value else value
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", value) if isinstance(value, str) else value


def _read_file(path: Path) -> dict[str, Any]:
    content = _text_of(path)
    if content is None and os.environ.get("WA_CONFIG"):
        raise ConfigError(
            _("there is no {path}").format(path=path),
            fix=_("mend WA_CONFIG, or make the file with `wa config set`"),
        )
    return _parsed(path, content or "")


def _text_of(path: Path) -> str | None:
    """What is in the file; None when there is none."""
    try:
        # Some editors on Windows begin a file with a byte order mark.
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as problem:
        raise _not_toml(path, problem) from None
    except OSError as problem:
        raise _unreadable(path, problem) from None


def _unreadable(path: Path, problem: OSError | UnicodeDecodeError) -> ConfigError:
    why = problem.strerror if isinstance(problem, OSError) else _("it is not text in UTF-8")
    variable = "WA_CONFIG" if os.environ.get("WA_CONFIG") and path == paths().config else "WA_HOME"
    return ConfigError(
        _("cannot read {path}").format(path=path),
        why=why or str(problem),
        fix=_("see that it is a file that you may read, or set {variable} to another place").format(
            variable=variable
        ),
    )


def _parsed(path: Path, content: str) -> dict[str, Any]:
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as problem:
        raise _not_toml(path, problem) from None


def _not_toml(path: Path, problem: ValueError) -> ConfigError:
    return ConfigError(
        _("{path} is not a TOML file").format(path=path), why=str(problem), fix=_("mend that line")
    )


def _flatten(document: dict[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for section, content in document.items():
        if isinstance(content, dict):
            pairs += [(f"{section}.{name}", value) for name, value in content.items()]
        else:
            pairs.append((section, content))
    return pairs


def _put(values: dict[str, Any], source: dict[str, str], key: str, value: Any, origin: str) -> None:
    known = [name for name, _value in flat(Settings())]
    section, _dot, name = key.partition(".")
    if key in LISTS and not origin.startswith(ENV_PREFIX):
        values[key] = value
        source[key] = origin
        return
    if section in LISTS:
        raise _written_by_hand(section, origin)
    if key not in known:
        from difflib import get_close_matches  # only a mistake needs it

        near = get_close_matches(key, known, n=1)
        written = [_variable(name) if origin.startswith(ENV_PREFIX) else name for name in near]
        raise ConfigError(
            _("unknown setting `{key}` in {origin}").format(key=key, origin=origin),
            fix=_("did you mean `{near}`?").format(near=written[0])
            if written
            else _("`wa config show` lists every setting"),
        )
    values.setdefault(section, {})[name] = value
    source[key] = origin


def _written_by_hand(section: str, origin: str) -> ConfigError:
    return ConfigError(
        _("`{section}` in {origin} is no single setting").format(section=section, origin=origin),
        why=_("it is a list of tables, each with its own settings"),
        fix=_("write `[[{section}]]` and its settings into {path}").format(
            section=section, path=paths().config
        ),
    )


def _variable(key: str) -> str:
    return ENV_PREFIX + key.upper().replace(".", "__")


def _from_text(text: str, key: str) -> Any:
    """A value from the environment or the command line: TOML where it is TOML, else the text itself."""
    section, _dot, name = key.partition(".")
    default = getattr(getattr(Settings(), section, None), name, "")
    if isinstance(default, str):
        return text
    if isinstance(default, tuple) and not text.lstrip().startswith("["):
        if all(isinstance(item, str) for item in default):
            return [part.strip() for part in text.split(",") if part.strip()]
        text = f"[{text}]"
    with suppress(tomllib.TOMLDecodeError):
        document = tomllib.loads(f"value = {text}")
        if len(document) == 1:
            return document["value"]
    return text


def _checked(values: dict[str, Any], source: dict[str, str]) -> Settings:
    try:
        return msgspec.convert(values, Settings)
    except msgspec.ValidationError as problem:
        message, _at, path = str(problem).partition(" - at `$.")
        key = re.sub(r"\[[^]]*\]", "", path.rstrip("`"))
        origin = source.get(key) or source.get(key.partition(".")[0], "?")
        raise ConfigError(
            _("wrong value for `{key}` in {origin}").format(key=key, origin=origin),
            why=_pattern_in_words(key) if "regex" in message else message[:1].lower() + message[1:],
            fix=_("`wa config show` lists every setting with its value"),
        ) from None


def _pattern_in_words(key: str) -> str:
    section, _dot, name = key.partition(".")
    kind = Account if section == "accounts" else type(getattr(Settings(), section))
    field = msgspec.json.schema(kind)["$defs"][kind.__name__]
    return _("it is to look like `{example}`").format(example=field["properties"][name]["examples"][0])
