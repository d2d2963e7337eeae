"""What a GGUF file says about itself, checked against its size, before any engine opens it.

Only the header is read: names, shapes and places of tensors, not the tensors. A file that is cut short, or
whose numbers can't be true, is refused here and not by a crash of the engine.
Source: the GGUF specification in the ggml repository (docs/gguf.md), versions 2 and 3.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from bedside.core.errors import BedsideError
from bedside.models.ggml import FILE_TYPES, TENSOR_TYPES
from bedside.models.header import LONGEST_KEY, Reader, Unsound, Value

MAGIC = int.from_bytes(b"GGUF", "little")
VERSIONS = (2, 3)
MOST_KEYS = 1 << 14
MOST_TENSORS = 1 << 16
LONGEST_TENSOR_NAME = 63  # GGML_MAX_NAME, less the closing zero
MOST_DIMENSIONS = 4  # GGML_MAX_DIMS
MOST_ALIGNMENT = 1 << 20
DEFAULT_ALIGNMENT = 32
VISION_PREFIXES = ("v.", "mm.")


@dataclass(frozen=True, slots=True)
class Gguf:
    """The facts of one file. ``parameters`` is the number of tensor elements, lengths are in tokens.

    ``quantization`` is the mix the file was made with (``Q4_K_M``), or else its commonest tensor type.
    ``tokenizer`` is the kind (``gpt2``, ``llama`` ...). ``has_vision``: it holds a vision projector.
    """

    version: int
    architecture: str
    name: str | None
    quantization: str
    parameters: int
    tensors: int
    context_length: int | None
    embedding_length: int | None
    block_count: int | None
    tokenizer: str | None
    has_chat_template: bool
    has_vision: bool


@dataclass(frozen=True, slots=True)
class _Tensors:
    """All tensors together: how many, their elements by type, and whether one belongs to a projector."""

    count: int
    elements: Mapping[str, int]
    has_vision: bool


def read(path: Path) -> Gguf:
    """Reads and checks the header of the file at ``path``.

    Raises ``GGUF_INVALID`` for a file that no engine could load, ``FILE_UNREADABLE`` if it can't be opened.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return _read(Reader(file, size), size)
    except Unsound as why:
        raise BedsideError("GGUF_INVALID", path=path, why=why) from None
    except OSError as error:
        raise BedsideError("FILE_UNREADABLE", path=path, why=error.strerror) from None


def _read(reader: Reader, size: int) -> Gguf:
    version, tensor_count, key_count = _preamble(reader)
    keys = _metadata(reader, key_count)
    architecture = keys.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise Unsound("it names no architecture")
    if (_whole(keys, "split.count") or 1) > 1:
        raise Unsound("it is one part of a model that was split; join the parts first")
    tensors = _tensors(reader, tensor_count, _alignment(keys), size)
    return Gguf(
        version=version,
        architecture=architecture,
        name=_word(keys, "general.name"),
        quantization=_quantization(keys, tensors),
        parameters=sum(tensors.elements.values()),
        tensors=tensors.count,
        context_length=_whole(keys, f"{architecture}.context_length"),
        embedding_length=_whole(keys, f"{architecture}.embedding_length"),
        block_count=_whole(keys, f"{architecture}.block_count"),
        tokenizer=_word(keys, "tokenizer.ggml.model"),
        has_chat_template="tokenizer.chat_template" in keys,
        has_vision=tensors.has_vision or keys.get("clip.has_vision_encoder") is True,
    )


def _preamble(reader: Reader) -> tuple[int, int, int]:
    if reader.u32() != MAGIC:
        raise Unsound("it does not begin with the letters GGUF")
    version = reader.u32()
    if version not in VERSIONS:
        # The other byte order shows here first: version 3 reads as 0x03000000.
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
        raise Unsound("it was made for big-endian machines" if swapped else "its version is not 2 or 3")
    tensors, keys = reader.u64(), reader.u64()
    if not 0 < tensors <= MOST_TENSORS:
        raise Unsound("its number of tensors can't be true")
    if keys > MOST_KEYS:
        raise Unsound("its number of keys can't be true")
    return version, tensors, keys


def _metadata(reader: Reader, count: int) -> dict[str, Value]:
    keys: dict[str, Value] = {}
    for _ in range(count):
        key = reader.text(LONGEST_KEY)
        if key in keys:
            raise Unsound("a key is there twice")
        keys[key] = reader.value(reader.u32())
    return keys


def _tensors(reader: Reader, count: int, alignment: int, size: int) -> _Tensors:
    names: set[str] = set()
    elements: Counter[str] = Counter()
    place = last = 0
    for _ in range(count):
        name, kind, number, length, offset = _tensor(reader)
        if name in names:
            raise Unsound("a tensor is there twice")
        # Engines want the tensors one after another in the order of the header, each aligned.
        if offset != place:
            raise Unsound("a tensor is not where it must be")
        names.add(name)
        elements[kind] += number
        last = offset + length
        place = _aligned(last, alignment)
    if _aligned(reader.position, alignment) + last > size:
        raise Unsound("it is cut short: its tensors go on after its end")
    return _Tensors(count, elements, any(name.startswith(VISION_PREFIXES) for name in names))


def _tensor(reader: Reader) -> tuple[str, str, int, int, int]:
    """Name, type, elements, bytes and offset of one tensor."""
    name = reader.text(LONGEST_TENSOR_NAME)
    dimensions = reader.u32()
    if not 0 < dimensions <= MOST_DIMENSIONS:
        raise Unsound("a tensor has an impossible number of dimensions")
    shape = [reader.u64() for _ in range(dimensions)]
    kind = TENSOR_TYPES.get(reader.u32())
    if kind is None:
        raise Unsound("a tensor has an unknown type")
    number = prod(shape)
    if not 0 < number < 1 << 63 or shape[0] % kind.block:
        raise Unsound("a tensor has an impossible shape")
    return name, kind.name, number, number // kind.block * kind.size, reader.u64()


def _alignment(keys: Mapping[str, Value]) -> int:
    alignment = keys.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= MOST_ALIGNMENT or alignment & (alignment - 1):
        raise Unsound("its alignment is not a power of two")
    return alignment


def _aligned(place: int, alignment: int) -> int:
    return -(-place // alignment) * alignment


def _quantization(keys: Mapping[str, Value], tensors: _Tensors) -> str:
    commonest = max(tensors.elements, key=lambda kind: tensors.elements[kind])
    mix = _whole(keys, "general.file_type")
    return commonest if mix is None else FILE_TYPES.get(mix, commonest)


def _whole(keys: Mapping[str, Value], key: str) -> int | None:
    value = keys.get(key)
    if value is not None and (type(value) is not int or value < 0):
        raise Unsound("a number in its header is not a number")
    return value if type(value) is int else None


def _word(keys: Mapping[str, Value], key: str) -> str | None:
    value = keys.get(key)
    return value if isinstance(value, str) else None
