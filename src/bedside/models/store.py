"""The models folder: files named by their sha256, and small manifests that give them names.

    blobs/sha256-HEX          whole, verified files
    manifests/NAME.json       name -> blob, size, source, time, what the file says of itself
    partial/                  what is being fetched or copied; nothing here is ever loaded
    locks/                    empty files that processes lock

A blob gets its name only when it is whole and checked, and a manifest is written after its blob: a crash
at any point leaves a model installed or not installed, never half.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bedside.core.chat import ModelInfo
from bedside.core.clock import Clock, SystemClock, iso
from bedside.core.errors import BedsideError
from bedside.models import gguf, installed
from bedside.models.files import Progress, copy_hashing, nothing, replace, sha256_of, write_whole
from bedside.models.installed import InstalledModel, blob_name
from bedside.models.names import check_name, file_name, is_name, name_of
from bedside.models.sizes import check_room, is_no_room, no_room
from bedside.storage.filelock import exclusive

Waiting = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Removal:
    """What removing a name does: ``freed`` bytes; 0 when ``still_used_by`` other names keep the file."""

    model: InstalledModel
    still_used_by: tuple[str, ...]

    @property
    def freed(self) -> int:
        return 0 if self.still_used_by else self.model.size


class ModelStore:
    """The store in ``root``, which is made when something is first put in.

    Safe for several processes at once: everything that changes a blob holds a lock on its digest.
    Methods that write raise ``MODELS_FOLDER`` or ``DISK_FULL``.
    """

    def __init__(self, root: Path, clock: Clock | None = None) -> None:
        self.root = root
        self._clock = clock or SystemClock()
        self._blobs, self._manifests = root / "blobs", root / "manifests"
        self._partial, self._locks = root / "partial", root / "locks"

    def installed(self) -> list[InstalledModel]:
        """All models that can be used now, by name. Reads the manifests only, not the files."""
        try:
            names = [name_of(entry.name) for entry in self._manifests.iterdir()]
        except OSError:
            return []
        found = (self.find(name) for name in sorted(name for name in names if name))
        return [model for model in found if model is not None]

    def version(self) -> int:
        """A number that differs once a model came or went; cheap to ask for."""
        try:
            return self._manifests.stat().st_mtime_ns
        except OSError:
            return 0

    def find(self, name: str) -> InstalledModel | None:
        """The model of that name; ``None`` if it is not installed, damaged, or no name at all."""
        if not is_name(name):
            return None
        try:
            raw = (self._manifests / file_name(name)).read_bytes()
        except OSError:
            return None
        model = installed.read(raw, self._blobs)
        return model if model is not None and model.name == name else None

    def blob(self, sha256: str) -> Path:
        """Where the file with this digest is, or would be."""
        return self._blobs / blob_name(sha256)

    def partial(self, sha256: str) -> Path:
        """The folder for what has arrived of this file; hold its lock."""
        return self._partial / blob_name(sha256)

    def drop_partial(self, sha256: str) -> None:
        """Throws away what has arrived of this file; hold its lock."""
        shutil.rmtree(self.partial(sha256), ignore_errors=True)

    @contextmanager
    def lock(self, sha256: str, waiting: Waiting | None = None) -> Iterator[None]:
        """Holds the digest for this process; ``waiting`` is called once if another one has it."""
        with self.ready(), exclusive(self._locks / blob_name(sha256), waiting):
            yield

    @contextmanager
    def ready(self, needed: int = 0) -> Iterator[None]:
        """The folders exist; what the system refuses inside becomes ``DISK_FULL`` or ``MODELS_FOLDER``."""
        try:
            for folder in (self._blobs, self._manifests, self._partial, self._locks):
                folder.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            if is_no_room(error):
                raise no_room(self.root, needed) from None
            raise BedsideError("MODELS_FOLDER", path=self.root, why=error.strerror or "unknown") from None

    def publish(self, name: str, file: Path, sha256: str, about: ModelInfo | None, source: str) -> InstalledModel:
        """Makes ``file``, durable and with this digest, the model ``name``; hold the digest's lock.

        ``file`` is moved, or left alone when it already is the blob. The header is checked before the
        model becomes visible. Raises ``GGUF_INVALID``, and ``MODEL_EXISTS`` when the name has another file.
        """
        self.check_free(name, sha256)
        facts = gguf.read(file)
        blob = self.blob(sha256)
        with self.ready():
            if file != blob:
                _place(file, blob)
            model = installed.describe(name, blob, sha256, facts, about, source, iso(self._clock.now()))
            write_whole(self._manifests / file_name(name), installed.write(model))
        return model

    def check_free(self, name: str, sha256: str) -> None:
        """Raises ``MODEL_EXISTS`` when ``name`` is installed with another file."""
        model = self.find(check_name(name))
        if model is not None and model.sha256 != sha256:
            raise BedsideError("MODEL_EXISTS", name=name, digest=model.sha256)

    def add(
        self,
        name: str,
        file: Path,
        about: ModelInfo | None = None,
        *,
        link: bool = False,
        waiting: Waiting | None = None,
        progress: Progress = nothing,
    ) -> InstalledModel:
        """Installs a file that is on this machine, by a copy that is hashed as it is made.

        ``link`` shares the file instead, where the disk allows it; whoever changes it later breaks the model.
        If ``about`` has a digest, the file must have it. Raises ``MODEL_NAME_INVALID``, ``FILE_UNREADABLE``,
        ``GGUF_INVALID``, ``MODEL_FILE_WRONG``, ``MODEL_EXISTS``.
        """
        check_name(name)
        gguf.read(_regular(file))
        with self.ready(file.stat().st_size), exclusive(self._locks / "add", waiting):
            folder = self._fresh_folder("adding")
            try:
                copy, sha256 = self._bring_in(file, folder / "file", link, progress)
                _check_digest(name, file, sha256, about)
                with self.lock(sha256, waiting):
                    return self.publish(name, copy, sha256, about, "added")
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _bring_in(self, file: Path, copy: Path, link: bool, progress: Progress) -> tuple[Path, str]:
        if link:
            try:
                os.link(file.resolve(), copy)
                return copy, sha256_of(copy)
            except OSError:
                copy.unlink(missing_ok=True)
        check_room(self.root, file.stat().st_size)
        return copy, copy_hashing(file, copy, progress)

    def _fresh_folder(self, name: str) -> Path:
        # One add at a time, so whatever is there was left by one that was killed.
        folder = self._partial / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def removal(self, name: str) -> Removal | None:
        """What ``remove`` would do; ``None`` if there is no such model. Changes nothing."""
        model = self.find(name)
        if model is None:
            return None
        others = (other.name for other in self.installed() if other.sha256 == model.sha256 and other.name != name)
        return Removal(model, tuple(others))

    def remove(self, name: str, waiting: Waiting | None = None) -> Removal | None:
        """Takes the name away, and the file with the last name that used it. ``None``: nothing was there."""
        model = self.find(name)
        if model is None:
            return None
        with self.lock(model.sha256, waiting), self.ready():
            removal = self.removal(name)
            if removal is None or removal.model.sha256 != model.sha256:
                return None
            (self._manifests / file_name(name)).unlink(missing_ok=True)
            if not removal.still_used_by:
                model.path.unlink(missing_ok=True)
            return removal


def _regular(file: Path) -> Path:
    if not file.exists():
        raise BedsideError("FILE_UNREADABLE", path=file, why="there is no such file")
    if not file.is_file():
        raise BedsideError("FILE_UNREADABLE", path=file, why="it is not a file")
    return file


def _place(file: Path, blob: Path) -> None:
    try:
        replace(file, blob)
    except PermissionError:
        # Windows: an engine has the blob open. It has the same digest, so it may stay.
        if not blob.exists() or blob.stat().st_size != file.stat().st_size:
            raise


def _check_digest(name: str, file: Path, sha256: str, about: ModelInfo | None) -> None:
    wanted = (about.digest or "").removeprefix("sha256:") if about else ""
    if wanted and wanted != sha256:
        raise BedsideError("MODEL_FILE_WRONG", path=file, name=name, why=f"its sha256 is {sha256}, not {wanted}")
