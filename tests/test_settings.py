"""Settings: flag > WA_* > config.toml > default, and every mistake is named with its place and its cure."""

import os
import stat
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from whisperagent import settings
from whisperagent.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
Env = pytest.MonkeyPatch
posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows has no file modes")


@pytest.fixture
def config(home: Path) -> Path:
    return home / "config.toml"


def refused(flags: dict[str, Any] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        settings.load(flags)
    assert caught.value.exit_code == 2
    return caught.value


# Precedence and places


def test_without_a_file_everything_is_the_default() -> None:
    loaded = settings.load()
    assert loaded.settings.upload == settings.Upload()
    assert set(loaded.source.values()) == {
        "WA_UI__LANGUAGE",
        "WA_RECORDING__BALLAST_MIB",
    }  # tests/conftest.py


def test_a_flag_beats_the_environment_beats_the_file(config: Path, monkeypatch: Env) -> None:
    config.write_text("[upload]\nretry_s = 1\nretry_max_s = 1\nkeep_days = 1\n")
    monkeypatch.setenv("WA_UPLOAD__RETRY_MAX_S", "2")
    monkeypatch.setenv("WA_UPLOAD__KEEP_DAYS", "2")
    loaded = settings.load({"upload.keep_days": 3, "upload.retry_s": None})
    upload = loaded.settings.upload
    assert (upload.retry_s, upload.retry_max_s, upload.keep_days) == (1, 2, 3)
    assert loaded.source["upload.retry_s"] == str(config)
    assert loaded.source["upload.retry_max_s"] == "WA_UPLOAD__RETRY_MAX_S"
    assert loaded.source["upload.keep_days"] == "the command line"


def test_wa_home_moves_every_file(home: Path) -> None:
    found = settings.paths()
    assert found.home == home
    places = (found.config, found.logs, found.spool, found.status, found.lock, found.server)
    assert {place.parent for place in places} == {home}


def test_without_wa_home_the_files_lie_where_the_platform_wants_them(monkeypatch: Env) -> None:
    monkeypatch.delenv("WA_HOME")
    found = settings.paths()
    assert found.config.is_absolute()
    assert "whisperagent" in str(found.home).lower()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names this place by a variable")
def test_what_is_set_for_everybody_yields_to_the_persons_own_file(tmp_path: Path, monkeypatch: Env) -> None:
    monkeypatch.delenv("WA_HOME")
    for name in ("XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    shared, own = settings.paths().shared, settings.paths().config
    assert shared is not None
    settings.write(shared / "config.toml", "upload.retry_s", "7")
    settings.write(shared / "config.toml", "upload.keep_days", "7")
    settings.write(own, "upload.keep_days", "8")
    loaded = settings.load()
    assert (loaded.settings.upload.retry_s, loaded.settings.upload.keep_days) == (7, 8)
    assert loaded.source["upload.retry_s"] == str(shared / "config.toml")


def test_wa_config_names_another_file(tmp_path: Path, monkeypatch: Env) -> None:
    other = tmp_path / "other.toml"
    monkeypatch.setenv("WA_CONFIG", str(other))
    assert str(other) in refused().what
    settings.write(other, "upload.retry_s", "7")
    assert settings.load().settings.upload.retry_s == 7


def test_a_byte_order_mark_from_an_editor_is_no_mistake(config: Path) -> None:
    config.write_text("[upload]\nretry_s = 1\n", "utf-8-sig")
    assert settings.load().settings.upload.retry_s == 1


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("WA_SERVE__PORT", "0", "serve.port", 0),
        ("WA_AGENT__EXTENSION", "0201", "agent.extension", "0201"),
        ("WA_AGENT__NAME", '["not a list"]', "agent.name", '["not a list"]'),
        ("WA_DETECTION__TITLES", "Call with, Appel avec", "detection.titles", ("Call with", "Appel avec")),
        ("WA_DETECTION__TITLES", '["a, b"]', "detection.titles", ("a, b",)),
        ("WA_DETECTION__TITLES", "", "detection.titles", ()),
        ("WA_TICKETS__RETRY_S", "1, 2.5", "tickets.retry_s", (1.0, 2.5)),
        ("WA_UI__KEYMAP", '{approve = "ctrl+y"}', "ui.keymap", {"approve": "ctrl+y"}),
    ],
)
def test_the_environment_is_read_as_the_setting_wants_it(
    monkeypatch: Env, name: str, text: str, key: str, value: object
) -> None:
    monkeypatch.setenv(name, text)
    assert dict(settings.flat(settings.load().settings))[key] == value


# Mistakes


def test_a_broken_file_is_named_with_the_place(config: Path) -> None:
    config.write_text("[upload]\nretry_s = = 1\n")
    problem = refused()
    assert str(config) in problem.what
    assert "line 2" in problem.why


def test_a_file_that_is_no_text_is_named(config: Path) -> None:
    config.write_bytes(b"\xff\xfe\x00")
    assert str(config) in refused().what


def test_a_folder_in_the_place_of_the_file_is_named(config: Path) -> None:
    config.mkdir()
    problem = refused()
    assert str(config) in problem.what
    assert "a file that you may read" in problem.fix


@posix_only
def test_a_home_that_cannot_be_read_is_named_with_the_cure(tmp_path: Path, monkeypatch: Env) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WA_HOME", str(tmp_path / "file" / "home"))
    problem = refused()
    assert problem.what.endswith("config.toml")
    assert problem.why == "Not a directory"
    assert "set WA_HOME to another place" in problem.fix


def test_where_wa_config_cannot_be_read_the_cure_is_about_it(tmp_path: Path, monkeypatch: Env) -> None:
    monkeypatch.setenv("WA_CONFIG", str(tmp_path))
    assert "set WA_CONFIG to another place" in refused().fix


@pytest.mark.parametrize(
    ("content", "key", "near"),
    [
        ("[upload]\nretrys = 1\n", "upload.retrys", "upload.retry_s"),
        ("[uplaod]\nretry_s = 1\n", "uplaod.retry_s", "upload.retry_s"),
        ("retry_s = 1\n", "retry_s", ""),
        ("[upload.retry_s]\nx = 1\n", "", ""),
        ("[[upload]]\nretry_s = 1\n", "upload", ""),
    ],
)
def test_a_key_that_nobody_knows_is_an_error_with_the_nearest_name(
    config: Path, content: str, key: str, near: str
) -> None:
    config.write_text(content)
    problem = refused()
    assert key in problem.what
    assert str(config) in problem.what
    assert near in problem.fix


def test_a_variable_that_nobody_knows_is_an_error_with_the_nearest_variable(monkeypatch: Env) -> None:
    monkeypatch.setenv("WA_UPLAOD__RETRY_S", "1")
    problem = refused()
    assert "WA_UPLAOD__RETRY_S" in problem.what
    assert "WA_UPLOAD__RETRY_S" in problem.fix


@pytest.mark.parametrize(
    ("key", "text", "why"),
    [
        ("upload.retry_s", "soon", "float"),
        ("upload.retry_s", "0", "> 0"),
        ("upload.retry_s", "1\nkeep_days = 0", "float"),
        ("serve.port", "70000", "65535"),
        ("server.url", "10.0.0.5:3002", "http://192.168.1.100:3002"),
        ("recording.layout", "stereo", "stereo"),
        ("tickets.retry_s", "60, soon", "array"),
        ("tickets.retry_s", "", "length"),
        ("agent.extension", "2 01", "201"),
        ("agent.extension", "201\n", "201"),
        ("server.url", "http://10.0.0.5 :3002", "http://192"),
        ("server.url", "http://10.0.0.5:3002/path", "http://192"),
        ("server.url", "http://:3002", "http://192"),
        ("server.url", "http://wa:secret@10.0.0.5", "http://192"),
    ],
)
def test_a_wrong_value_is_named_with_its_origin(monkeypatch: Env, key: str, text: str, why: str) -> None:
    name = "WA_" + key.upper().replace(".", "__")
    monkeypatch.setenv(name, text)
    problem = refused()
    assert key in problem.what
    assert name in problem.what
    assert why in problem.why


# wa config set


def test_a_written_setting_is_read_again_and_comments_stay(config: Path) -> None:
    config.write_text("# ours\n[upload]\nretry_s = 1  # quick\nkeep_days = 3\n")
    assert settings.write(config, "upload.retry_s", "60") == 60
    assert config.read_text() == "# ours\n[upload]\nretry_s = 60  # quick\nkeep_days = 3\n"
    settings.write(config, "server.url", "http://10.0.0.5:3002")
    assert settings.load().settings.server.url == "http://10.0.0.5:3002"


@pytest.mark.parametrize("content", ["upload.keep_days = 3\n", "upload = { keep_days = 3 }\n"])
def test_any_way_to_write_a_section_is_kept(config: Path, content: str) -> None:
    config.write_text(content)
    settings.write(config, "upload.retry_s", "60")
    upload = settings.load().settings.upload
    assert (upload.retry_s, upload.keep_days) == (60, 3)


@pytest.mark.parametrize(
    ("key", "text"), [("upload.retry", "1"), ("upload.retry_s", "soon"), ("upload", "1")]
)
def test_a_refused_setting_leaves_the_file_as_it_was(config: Path, key: str, text: str) -> None:
    config.write_text("[upload]\nretry_s = 1\n")
    with pytest.raises(ConfigError):
        settings.write(config, key, text)
    assert config.read_text() == "[upload]\nretry_s = 1\n"
    assert [path.name for path in config.parent.iterdir()] == ["config.toml"]


def test_a_file_with_a_mistake_is_mended_by_hand_first(config: Path) -> None:
    config.write_text("[upload]\nretrys = 1\n")
    with pytest.raises(ConfigError, match="retrys"):
        settings.write(config, "upload.retry_s", "2")


@posix_only
@pytest.mark.parametrize(
    ("before", "key", "after"),
    [
        (None, "upload.retry_s", 0o600),
        (0o644, "upload.retry_s", 0o644),
        (0o644, "serve.signing_key", 0o640),
        (0o600, "serve.signing_key", 0o600),
    ],
)
def test_a_secret_is_never_written_where_others_read(
    config: Path, before: int | None, key: str, after: int
) -> None:
    if before is not None:
        config.write_text("")
        config.chmod(before)
    settings.write(config, key, "60")
    assert stat.S_IMODE(config.stat().st_mode) == after


@posix_only
def test_a_link_to_the_file_stays_a_link(config: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text("")
    config.symlink_to(real)
    settings.write(config, "upload.retry_s", "60")
    assert config.is_symlink()
    assert "60" in real.read_text()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    where = tmp_path / "file" / "config.toml"
    with pytest.raises(ConfigError, match=r"config\.toml") as error:
        settings.write(where, "upload.retry_s", "60")
    assert "WA_HOME" in error.value.fix


def test_secrets_and_passwords_are_not_shown() -> None:
    assert settings.shown("tickets.client_secret", "canary") == "***"
    assert settings.shown("serve.signing_key", "") == ""
    assert settings.shown("serve.database", "postgresql://wa:canary@db.example/wa") == (
        "postgresql://wa:***@db.example/wa"
    )
    assert settings.shown("server.url", "http://10.0.0.5:3002") == "http://10.0.0.5:3002"


# Accounts

ACCOUNTS = '[[accounts]]\nextension = "305"\nname = "Contoso"\npatterns = ["Contoso"]\n'


def test_several_accounts_are_tables_of_their_own(config: Path) -> None:
    config.write_text(ACCOUNTS + '[[accounts]]\nextension = "306"\n')
    loaded = settings.load()
    assert [str(account) for account in loaded.settings.accounts] == ["305 Contoso", "306"]
    assert loaded.source["accounts"] == str(config)


def test_another_setting_is_written_beside_accounts(config: Path) -> None:
    config.write_text(ACCOUNTS)
    settings.write(config, "upload.retry_s", "60")
    loaded = settings.load().settings
    assert (loaded.upload.retry_s, len(loaded.accounts)) == (60, 1)


@pytest.mark.parametrize("key", ["accounts", "accounts.extension"])
def test_accounts_are_written_by_hand(config: Path, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.write(config, key, "305")
    assert "[[accounts]]" in caught.value.fix
    assert not config.exists()


def test_accounts_do_not_come_from_a_variable(monkeypatch: Env) -> None:
    monkeypatch.setenv("WA_ACCOUNTS__EXTENSION", "305")
    assert "[[accounts]]" in refused().fix


@pytest.mark.parametrize(
    ("content", "what", "why"),
    [
        ('[accounts]\nextension = "305"\n', "accounts", "list of tables"),
        ('[[accounts]]\nextension = "3 05"\n', "accounts.extension", "201"),
        ('[[accounts]]\nname = "Contoso"\n', "accounts", "extension"),
        ('[[accounts]]\nextension = "305"\nnom = "x"\n', "accounts", "nom"),
        ("accounts = 305\n", "accounts", "array"),
    ],
)
def test_a_mistake_in_an_account_is_named(config: Path, content: str, what: str, why: str) -> None:
    config.write_text(content)
    problem = refused()
    assert what in problem.what
    assert str(config) in problem.what
    assert why in problem.why


@pytest.mark.parametrize("url", ["http://pbx.example.com", "pbx.example.com", "https://u:p@pbx.example.com"])
def test_the_telephone_system_is_asked_by_tls_only(monkeypatch: Env, url: str) -> None:
    monkeypatch.setenv("WA_CALLCONTROL__URL", url)
    assert "https://pbx.example.com" in refused().why


# The token


def test_the_token_comes_from_the_environment_or_a_file_of_ours(home: Path, monkeypatch: Env) -> None:
    assert settings.token() == ""
    (home / "token").write_text("from-file\n")
    (home / "token").chmod(0o600)
    assert settings.token() == "from-file"
    monkeypatch.setenv("WA_TOKEN", "from-environment")
    assert settings.token() == "from-environment"


def test_a_token_that_is_no_text_is_named_with_the_cure(home: Path) -> None:
    (home / "token").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="token") as caught:
        settings.token()
    assert caught.value.why == "it is not text in UTF-8"
    assert caught.value.fix


@posix_only
def test_a_token_that_others_can_read_is_refused(home: Path) -> None:
    (home / "token").write_text("canary")
    (home / "token").chmod(0o644)
    with pytest.raises(ConfigError) as caught:
        settings.token()
    assert "chmod 600" in caught.value.fix
    assert "canary" not in str(vars(caught.value))


# The page


def documented() -> dict[str, tuple[str, str]]:
    """key -> (default, values), from the tables of docs/settings.md"""
    rows = {}
    section = ""
    for line in (ROOT / "docs" / "settings.md").read_text("utf-8").splitlines():
        if line.startswith("## `["):
            section = line.partition("[")[2].partition("]")[0].lstrip("[")
        elif section and line.startswith("| `"):
            name, default, values, meaning = (cell.strip() for cell in line[1:-1].split("|"))
            assert meaning, f"{name} has no meaning"
            rows[f"{section}.{name.strip('`')}"] = (default.strip("`"), values)
    return rows


def allowed(section: msgspec.Struct, name: str) -> str:
    """The values that a setting takes, in the words of the page."""
    schema = msgspec.json.schema(type(section))
    field: dict[str, Any] = schema["$defs"][type(section).__name__]["properties"][name]
    if "enum" in field:
        value = getattr(section, name)
        return ", ".join(
            f"`{option}`" for option in sorted(field["enum"], key=lambda option: option != value)
        )
    lists = field["type"] == "array"
    kind = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "object": "table",
        "boolean": "`true`, `false`",
    }[field["items"]["type"] if lists else field["type"]]
    limits = [
        f"{word} {field[key]:g}"
        for key, word in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("maximum", "≤"))
        if key in field
    ]
    return " ".join([f"list of {kind}" if lists else kind, *limits])


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return (
        f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
    )


def test_the_page_of_settings_is_true_and_complete() -> None:
    defaults = settings.Settings()
    real = {}
    for key, value in settings.flat(defaults):
        section, _dot, name = key.partition(".")
        if key not in settings.LISTS:
            real[key] = (toml(value), allowed(getattr(defaults, section), name))
    account = settings.Account(extension="")
    real["accounts.extension"] = ("", allowed(account, "extension"))
    for name in ("name", "patterns"):
        real[f"accounts.{name}"] = (toml(getattr(account, name)), allowed(account, name))
    assert documented() == real
