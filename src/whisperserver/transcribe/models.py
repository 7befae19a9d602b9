"""Speech models: where they lie, and how one gets there.

A model is a folder in CTranslate2's format. Those that were pulled lie in `server/models/NAME`; `demo` came
with the package; any other folder is named by its path. Nothing is ever fetched unless a person asks for it.
"""

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from whisperagent.errors import ServerUnreachable, SpeechUnavailable, UsageError
from whisperagent.i18n import _, deferred

DEMO = "demo"
DEMO_NOTICE = deferred(
    "the demo model knows a small vocabulary of helpdesk phrases in French and English and is for "
    "demonstration only; `wa server model pull large-v3-turbo` gets a real one, and "
    "`wa config set speech.model large-v3-turbo` has the server use it"
)

NEEDED = ("model.bin", "config.json", "tokenizer.json")
"""Without its tokenizer faster-whisper would go and fetch one."""

FETCHED = [*NEEDED, "preprocessor_config.json", "vocabulary.*"]


def folder(name: str, models: Path) -> Path:
    """The folder of a model.

    name: `demo`, the name of a pulled one (`large-v3-turbo`, `owner/repository`), or the path of a folder.
    models: where pulled ones lie (`paths.server / "models"`).
    raises SpeechUnavailable: there is none, or a file of it is missing.
    """
    found = _find(name, models)
    if found is None:
        raise SpeechUnavailable(
            _("there is no speech model `{name}`").format(name=name),
            why=_("it is no folder, and not in {models}").format(models=models),
            fix=_("`wa server model pull {name}`, or `--model demo` to try things out").format(name=name),
        )
    if missing := [file for file in NEEDED if not (found / file).is_file()]:
        raise SpeechUnavailable(
            _("the speech model in {folder} is not complete").format(folder=found),
            why=_("{file} is missing").format(file=missing[0]),
            fix=_("delete the folder and pull the model again: `wa server model pull NAME`"),
        )
    return found


def installed(models: Path) -> tuple[str, ...]:
    """The names of the models that were pulled, in order, then `demo`."""
    there = sorted(path.name for path in models.glob("*") if all((path / file).is_file() for file in NEEDED))
    return (*(name.replace("--", "/", 1) for name in there if not name.startswith(".")), DEMO)


def pull(name: str, models: Path, tell: Callable[[float], None] = lambda _share: None) -> Path:
    """Fetch a model from the Hugging Face hub into `models`; one that is there already stays as it is.

    name: one that faster-whisper knows (`large-v3-turbo`), or `owner/repository`.
    tell: is given the share that has come, 0..1, about twice a second, from another thread.
    returns: its folder, which appears complete or not at all.
    raises UsageError: no such model. ServerUnreachable: the hub does not answer, or breaks off.
    """
    repository = _repository(name)
    target = models / _folder_name(name)
    if target.is_dir():
        return folder(name, models)
    models.mkdir(parents=True, exist_ok=True)
    # Beside its later place, so that the move into it is one rename; a leading dot keeps it out of the list.
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=models, ignore_cleanup_errors=True) as temporary:
        come = Path(temporary) / "model"
        _fetch(name, repository, come, target, tell)
        folder(str(come), models)
        shutil.rmtree(come / ".cache", ignore_errors=True)  # the hub's own notes
        come.rename(target)
    return target


def _find(name: str, models: Path) -> Path | None:
    if name == DEMO:
        return Path(__file__).parents[1] / "demo" / "model"
    pulled = models / _folder_name(name)
    places = ([pulled] if _is_name(name) else []) + [Path(name).expanduser()]
    return next((place for place in places if place.is_dir()), None)


def _is_name(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name) is not None


def _folder_name(name: str) -> str:
    return name.replace("/", "--")


def _repository(name: str) -> str:
    from faster_whisper.utils import _MODELS, available_models

    if "/" in name and _is_name(name):
        return name
    if name not in available_models():
        raise UsageError(
            _("nobody knows a speech model `{name}`").format(name=name),
            fix=_("one of {names}, or owner/repository on the hub").format(
                names=", ".join(available_models())
            ),
        )
    # Not download_model(): it hands the hub a parameter that the hub has dropped, and shows no progress.
    return str(_MODELS[name])


def _fetch(name: str, repository: str, come: Path, target: Path, tell: Callable[[float], None]) -> None:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    try:
        files = HfApi().model_info(repository, files_metadata=True).siblings or []
        total = sum(
            file.size or 0 for file in files if any(fnmatch(file.rfilename, each) for each in FETCHED)
        )
        with _Watch(come, total, tell):
            snapshot_download(repository, local_dir=come, allow_patterns=FETCHED)
    except RepositoryNotFoundError:
        raise UsageError(
            _("the hub has no speech model {repository}").format(repository=repository),
            why=_("it does not exist, or is not public"),
        ) from None
    except Exception as problem:
        # What a bad line raises is the HTTP library's own, and that changes from one hub client to the next.
        raise _unreachable(name, repository, target, problem) from problem


def _unreachable(name: str, repository: str, target: Path, problem: Exception) -> ServerUnreachable:
    return ServerUnreachable(
        _("cannot fetch the speech model {name} from the hub").format(name=name),
        why=str(problem).partition("\n")[0][:300],
        fix=_(
            "look at the network and HTTPS_PROXY; or fetch the files of {repository} on another machine "
            "and copy the folder to {folder}"
        ).format(repository=repository, folder=target),
    )


class _Watch:
    """Tells how much of a download lies on the disk, by looking: no version of the hub hides that."""

    def __init__(self, place: Path, total: int, tell: Callable[[float], None]) -> None:
        self._place = place
        self._total = max(1, total)
        self._tell = tell
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_what: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            self._tell(min(1.0, self._size() / self._total))

    def _size(self) -> int:
        size = 0
        for where, _folders, files in os.walk(self._place):
            for file in files:
                try:
                    size += (Path(where) / file).stat().st_size
                except FileNotFoundError:
                    continue  # it was complete, and moved, in between
        return size
