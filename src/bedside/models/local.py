"""A model's file from the operator's own folders: a share, a USB disk, another program's store."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bedside.models.files import Progress, copy_hashing
from bedside.models.sources import FILE, NotHere, Want


@dataclass(frozen=True, slots=True)
class LocalFolders:
    """Files, and folders with all that is below them. A file is known by its size and sha256, not its name."""

    folders: Sequence[Path]
    kind: Literal["local"] = "local"
    label: str = "the local folders"
    key: str = "local"

    def scratch(self, want: Want) -> int:
        return 0

    def fetch(self, want: Want, folder: Path, progress: Progress) -> None:
        """Copies and hashes in one pass. Files that can't be read are passed over."""
        for candidate in self._candidates(want):
            if copy_hashing(candidate, folder / FILE, progress) == want.sha256:
                return
        raise NotHere(f"no file of {want.size} bytes with that sha256 in {self.label}")

    def _candidates(self, want: Want) -> list[Path]:
        """Readable files of the right size; first those that carry the digest as a name, as Ollama's blobs do."""
        found = {path for folder in self.folders for path in _files(folder) if _fits(path, want.size)}
        return sorted(found, key=lambda path: (want.sha256 not in path.name, str(path)))


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def _fits(path: Path, size: int) -> bool:
    try:
        return path.is_file() and path.stat().st_size == size and os.access(path, os.R_OK)
    except OSError:
        return False
