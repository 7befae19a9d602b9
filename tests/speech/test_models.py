"""Speech models: found, missing, broken, fetched."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.speech.hub import MODEL, hub
from whisperagent.errors import SpeechUnavailable
from whisperagent.settings import Speech
from whisperserver.transcribe.engine import Engine
from whisperserver.transcribe.models import DEMO, folder, installed


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the demo's model, to be broken."""
    return shutil.copytree(MODEL, tmp_path / "model")


def wa(home: Path, *command: str, endpoint: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WA_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    program = [sys.executable, "-m", "whisperagent", "server", "model"]
    return subprocess.run([*program, *command], env=environment, capture_output=True, text=True, check=False)


def test_a_model_is_found_by_name_and_by_path(model: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    pulled = shutil.copytree(model, models / "owner--name")
    assert folder("owner/name", models) == pulled
    assert folder(str(model), models) == model
    assert folder(DEMO, models) == MODEL
    assert installed(models) == ("owner/name", DEMO)
    assert installed(tmp_path / "nowhere") == (DEMO,)


def test_a_missing_model_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(SpeechUnavailable, match="no speech model `large-v3-turbo`") as caught:
        Engine(Speech(), tmp_path)
    assert "`wa server model pull large-v3-turbo`" in caught.value.fix


@pytest.mark.parametrize("name", ["../model", "..", "", "models/../../model", "a/b/c"])
def test_no_name_leads_out_of_the_folder_of_models(name: str, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    shutil.copytree(MODEL, tmp_path / "model")
    with pytest.raises(SpeechUnavailable):
        folder(name, models)


@pytest.mark.parametrize("file", ["model.bin", "config.json", "tokenizer.json"])
def test_a_model_without_one_of_its_files_is_not_loaded_and_nothing_is_fetched(
    model: Path, file: str
) -> None:
    (model / file).unlink()
    with pytest.raises(SpeechUnavailable) as caught:
        Engine(Speech(model=str(model)), Path())
    assert caught.value.why == f"{file} is missing"


@pytest.mark.parametrize("file", ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"])
@pytest.mark.parametrize("share", [0, 0.0005, 0.5, 0.999])
def test_a_model_that_was_cut_is_one_clear_error(model: Path, file: str, share: float) -> None:
    content = (model / file).read_bytes()
    (model / file).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SpeechUnavailable, match="cannot load the speech model in") as caught:
        Engine(Speech(model=str(model)), Path())
    assert caught.value.why
    assert "pull the model again" in caught.value.fix


def test_garbage_in_place_of_a_model_is_one_clear_error(model: Path) -> None:
    (model / "model.bin").write_bytes(os.urandom(100_000))
    with pytest.raises(SpeechUnavailable, match="cannot load"):
        Engine(Speech(model=str(model)), Path())


@pytest.mark.parametrize(
    ("speech", "fix"),
    [
        (Speech(model=DEMO, compute_type="nonsense"), '`compute_type = "auto"`'),
        (Speech(model=DEMO, languages=("fr", "xx")), "`languages` under [speech]"),
    ],
)
def test_a_setting_that_does_not_fit_names_itself(speech: Speech, fix: str) -> None:
    with pytest.raises(SpeechUnavailable) as caught:
        Engine(speech, Path())
    assert fix in caught.value.fix.replace("set `", "`")


@pytest.mark.slow
def test_a_pulled_model_is_there_and_works(home: Path) -> None:
    with hub() as endpoint:
        pulled = wa(home, "pull", "tiny", endpoint=endpoint)
        assert pulled.returncode == 0, pulled.stderr
        assert "wa config set speech.model tiny" in pulled.stderr
        listed = wa(home, "list", "--json", endpoint=endpoint)
    models = home / "server" / "models"
    assert [each["name"] for each in json.loads(listed.stdout)] == ["tiny", "demo"]
    assert {file.name for file in (models / "tiny").iterdir()} == {file.name for file in MODEL.iterdir()}
    assert Engine(Speech(model="tiny"), models).model == "tiny"


@pytest.mark.slow
def test_a_hub_that_does_not_answer_or_breaks_off_leaves_nothing_behind(home: Path) -> None:
    with hub(broken=True) as endpoint:
        broken = wa(home, "pull", "tiny", endpoint=endpoint)
    unreachable = wa(home, "pull", "tiny", endpoint="http://127.0.0.1:1")
    models = home / "server" / "models"
    for answer in (broken, unreachable):
        assert answer.returncode == 3
        assert "cannot fetch the speech model tiny" in answer.stderr
        assert f"copy the folder to {models / 'tiny'}" in answer.stderr
        assert "Traceback" not in answer.stderr
    assert list(models.iterdir()) == []


@pytest.mark.slow
def test_a_model_that_nobody_knows_is_a_wrong_command(home: Path) -> None:
    with hub() as endpoint:
        unknown = wa(home, "pull", "nope", endpoint=endpoint)
        missing = wa(home, "pull", "nobody/nothing", endpoint=endpoint)
    assert (unknown.returncode, missing.returncode) == (2, 2)
    assert "large-v3-turbo" in unknown.stderr
    assert "nobody/nothing" in missing.stderr
