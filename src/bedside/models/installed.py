"""A model that is on this disk, and the small JSON file (its manifest) that says so."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, cast

from bedside.core.chat import ModelInfo
from bedside.models.gguf import Gguf

FORMAT = 1


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A name and the verified file behind it.

    ``sha256`` is 64 hex digits, ``size`` in bytes, ``added`` RFC 3339 in UTC; ``source`` says where the
    file came from: ``local``, ``index``, ``url`` or ``added`` (by hand). ``path`` is the blob itself.
    """

    name: str
    sha256: str
    size: int
    path: Path
    source: str
    added: str
    display_name: str
    description: str
    type: Literal["text", "vision"]
    capabilities: Sequence[str]
    license: str | None
    gguf: Gguf

    @property
    def digest(self) -> str:
        """``sha256:`` and 64 hex digits, as the doors and the audit log show it."""
        return f"sha256:{self.sha256}"

    def info(self) -> ModelInfo:
        """As every door describes a model; what the file says goes before what the catalogue says."""
        return ModelInfo(
            name=self.name,
            display_name=self.display_name,
            size=self.size,
            type=self.type,
            capabilities=tuple(self.capabilities),
            description=self.description,
            installed=True,
            quantization=self.gguf.quantization,
            digest=self.digest,
            license=self.license,
            context_length=self.gguf.context_length,
            family=self.gguf.architecture,
            parameters=self.gguf.parameters,
        )


def describe(
    name: str, path: Path, sha256: str, gguf: Gguf, about: ModelInfo | None, source: str, added: str
) -> InstalledModel:
    """The record of a file just verified; ``about`` is what the catalogue says of it, if it is there."""
    known = about or ModelInfo(name=name, display_name=gguf.name or name, size=0, capabilities=("completion",))
    return InstalledModel(
        name=name,
        sha256=sha256,
        size=path.stat().st_size,
        path=path,
        source=source,
        added=added,
        display_name=known.display_name,
        description=known.description,
        type=known.type,
        capabilities=tuple(known.capabilities),
        license=known.license,
        gguf=gguf,
    )


def write(model: InstalledModel) -> bytes:
    """The manifest's bytes. The path is left out: the store may be moved or mounted elsewhere."""
    record = {"format": FORMAT, **asdict(model)}
    del record["path"]
    return json.dumps(record, indent=1).encode()


def read(raw: bytes, blobs: Path) -> InstalledModel | None:
    """The model a manifest speaks of; ``None`` if it is damaged, of another format, or its file is not whole."""
    try:
        record = cast(dict[str, object], json.loads(raw))
        facts = cast(dict[str, object], record["gguf"])
        model = _build(record, facts, blobs)
        return model if model.path.stat().st_size == model.size else None
    except (ValueError, KeyError, TypeError, OSError):
        return None


def _build(record: dict[str, object], facts: dict[str, object], blobs: Path) -> InstalledModel:
    if record["format"] != FORMAT:
        raise ValueError("another format")
    # A field that is missing raises KeyError; the names are those of the dataclasses.
    gguf = Gguf(**{field.name: facts[field.name] for field in fields(Gguf)})  # type: ignore[arg-type]
    path = blobs / blob_name(str(record["sha256"]))
    given = {field.name: record[field.name] for field in fields(InstalledModel) if field.name not in ("gguf", "path")}
    given["capabilities"] = tuple(cast(list[str], given["capabilities"]))
    return InstalledModel(**given, gguf=gguf, path=path)  # type: ignore[arg-type]


def blob_name(sha256: str) -> str:
    """The file name of a blob. Raises ``ValueError`` for anything but 64 hex digits."""
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise ValueError("not a sha256")
    return f"sha256-{sha256}"
