"""Getting a model of the catalogue: permission, room, sources in order, proof, and only then its name."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bedside.core.errors import BedsideError
from bedside.core.settings import Settings
from bedside.models.catalogue import Entry, install_command
from bedside.models.files import Progress, nothing, sha256_of
from bedside.models.installed import InstalledModel
from bedside.models.local import LocalFolders
from bedside.models.sizes import check_room, is_no_room, no_room
from bedside.models.sources import FILE, Broken, NotHere, Permission, Source, Want, Wrong, build
from bedside.models.store import ModelStore, Waiting

Pause = Callable[[float], None]
ALL_KINDS = frozenset({"local", "index", "url"})


def permission(settings: Settings, allow_download: bool = False) -> Permission:
    """What the settings allow. Local sources always; others if named, with HIPAA_MODE off, or for this once."""
    free = allow_download or not settings.flag("HIPAA_MODE")
    kinds = ALL_KINDS if free else {"local", *settings.words("BEDSIDE_MODEL_SOURCES")}
    folders = settings.text("BEDSIDE_MODEL_FOLDERS").split(os.pathsep)
    return Permission(kinds, tuple(Path(folder).expanduser() for folder in folders if folder))


def pull(
    entry: Entry,
    store: ModelStore,
    allowed: Permission,
    progress: Progress = nothing,
    waiting: Waiting | None = None,
    pause: Pause = time.sleep,
) -> InstalledModel:
    """Installs the model of ``entry``, or returns at once if it is installed.

    ``progress`` is called with (bytes done, bytes in all) and never runs backwards; ``waiting`` once if
    another process is getting the same file. After an error or Ctrl-C, what arrived is kept for the next run.

    Raises ``SOURCE_NONE``, ``SOURCE_NOT_ALLOWED``, ``DOWNLOAD_FAILED``, ``DOWNLOAD_WRONG``, ``DISK_FULL``,
    ``GGUF_INVALID``, ``MODEL_EXISTS``, ``MODELS_FOLDER``.
    """
    if entry.sha256 is None:
        if (model := store.find(entry.name)) is not None:
            return model
        raise _no_source(entry)
    store.check_free(entry.name, entry.sha256)
    return store.find(entry.name) or _pull(entry, entry.sha256, store, allowed, progress, waiting, pause)


def _pull(
    entry: Entry,
    sha256: str,
    store: ModelStore,
    allowed: Permission,
    progress: Progress,
    waiting: Waiting | None,
    pause: Pause,
) -> InstalledModel:
    want = Want(entry.name, entry.size, sha256)
    with store.lock(sha256, waiting):
        if (model := store.find(entry.name)) is not None:
            return model  # the process that held the lock has done it
        if (blob := _blob_in_store(store, want)) is not None:
            return store.publish(entry.name, blob, sha256, entry.info(), "local")
        attempt = _Attempt(store, want, _Forward(progress))
        for source in _sources(entry, allowed, pause):
            if (file := attempt.fetch(source)) is not None:
                return _publish(entry, sha256, store, file, source)
        raise attempt.failure(entry, allowed)


def _blob_in_store(store: ModelStore, want: Want) -> Path | None:
    """The wanted file, if it is here under another name or without one; hashed again to be sure."""
    blob = store.blob(want.sha256)
    return blob if blob.is_file() and sha256_of(blob) == want.sha256 else None


def _publish(entry: Entry, sha256: str, store: ModelStore, file: Path, source: Source) -> InstalledModel:
    try:
        model = store.publish(entry.name, file, sha256, entry.info(), source.kind)
    except BedsideError as error:
        if error.code == "GGUF_INVALID":
            store.drop_partial(sha256)
        raise
    store.drop_partial(sha256)
    return model


def _sources(entry: Entry, allowed: Permission, pause: Pause) -> Iterator[Source]:
    if allowed.folders:
        yield LocalFolders(allowed.folders)
    yield from (build(spec, pause) for spec in entry.sources if spec.kind in allowed.kinds)


def _no_source(entry: Entry) -> BedsideError:
    return BedsideError("SOURCE_NONE", name=entry.name, command=f"Get it with: {install_command(entry)}")


class _Forward:
    """Progress that never runs backwards: a source that starts over is silent until it is past the mark."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._mark = -1

    def __call__(self, done: int, total: int) -> None:
        if done > self._mark:
            self._mark = done
            self._progress(done, total)


@dataclass
class _Attempt:
    """Tries sources for one file and remembers why each of them failed. The lock on the digest is held."""

    store: ModelStore
    want: Want
    progress: Progress
    broken: list[str] = field(default_factory=list)
    wrong: list[BedsideError] = field(default_factory=list)

    def fetch(self, source: Source) -> Path | None:
        """The verified file, or ``None`` when this source did not bring it. Raises ``DISK_FULL``."""
        folder = self.store.partial(self.want.sha256) / source.key
        try:
            folder.mkdir(parents=True, exist_ok=True)
            check_room(self.store.root, self._needed(source, folder))
            source.fetch(self.want, folder, self.progress)
            return self._verified(folder / FILE)
        except NotHere:
            _clear(folder)
        except Broken as why:
            self.broken.append(str(why))
        except Wrong as why:
            _clear(folder)
            self.wrong.append(BedsideError("DOWNLOAD_WRONG", source=source.label, name=self.want.name, why=why))
        except OSError as error:
            if is_no_room(error):
                raise no_room(self.store.root, self._needed(source, folder)) from None
            self.broken.append(f"{source.label}: {error.strerror}")
        return None

    def _needed(self, source: Source, folder: Path) -> int:
        file = folder / FILE
        have = file.stat().st_size if file.exists() else 0
        return max(0, self.want.size - have) + source.scratch(self.want)

    def _verified(self, file: Path) -> Path:
        size = file.stat().st_size
        if size != self.want.size:
            raise Wrong(f"it is {size} bytes long, not {self.want.size}")
        sha256 = sha256_of(file)
        if sha256 != self.want.sha256:
            raise Wrong(f"its sha256 is {sha256}")
        return file

    def failure(self, entry: Entry, allowed: Permission) -> BedsideError:
        """The one error that helps most: a wrong file, a broken source, a permission, or no source at all."""
        if self.wrong and not self.broken:
            return self.wrong[-1]
        if self.broken:
            whys = [*self.broken, *(error.cause for error in self.wrong)]
            return BedsideError("DOWNLOAD_FAILED", name=entry.name, why="; ".join(whys))
        if any(spec.kind not in allowed.kinds for spec in entry.sources):
            return BedsideError("SOURCE_NOT_ALLOWED", name=entry.name)
        return _no_source(entry)


def _clear(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
