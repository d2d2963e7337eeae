"""Small real files for the tests: GGUF models of a few hundred bytes, wheels that carry them, and entries."""

import hashlib
import os
import struct
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bedside.models.catalogue import Entry
from bedside.models.sources import IndexSpec, Permission, SourceSpec

U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10
EVERYWHERE = Permission({"local", "index", "url"})


@dataclass(frozen=True)
class Tensor:
    """One tensor of the header; ``offset`` ``None`` puts it where it belongs."""

    name: str = "token_embd.weight"
    shape: Sequence[int] = (32, 4)
    kind: int = 2
    size: int = 72
    offset: int | None = None


def text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def word(name: str, value: str | bytes) -> bytes:
    return key(name, STRING, text(value))


def number(name: str, value: int) -> bytes:
    return key(name, U32, struct.pack("<I", value))


def words(name: str, values: Sequence[str]) -> bytes:
    return key(name, ARRAY, struct.pack("<IQ", STRING, len(values)) + b"".join(map(text, values)))


KEYS = (
    word("general.architecture", "llama"),
    word("general.name", "Tiny"),
    number("general.file_type", 2),
    number("llama.context_length", 2048),
    number("llama.block_count", 3),
    number("llama.embedding_length", 64),
    word("tokenizer.ggml.model", "gpt2"),
    words("tokenizer.ggml.tokens", ["a", "b", "", "def"]),
    key("tokenizer.ggml.scores", ARRAY, struct.pack("<IQ3f", F32, 3, 0.5, 1.0, 2.0)),
    key("tokenizer.ggml.add_bos_token", BOOL, b"\x01"),
    word("tokenizer.chat_template", "{{ messages }}" * 200),
)


def gguf_bytes(
    keys: Iterable[bytes] = KEYS,
    tensors: Sequence[Tensor] = (Tensor(), Tensor("output.weight", (64,), 0, 256)),
    *,
    magic: bytes = b"GGUF",
    version: bytes = struct.pack("<I", 3),
    tensor_count: int | None = None,
    key_count: int | None = None,
    alignment: int = 32,
    seed: bytes = b"",
) -> bytes:
    """A whole GGUF file; ``seed`` makes the tensors' bytes of two files differ."""
    keys, place, infos = list(keys), 0, b""
    for tensor in tensors:
        offset = place if tensor.offset is None else tensor.offset
        infos += text(tensor.name) + struct.pack("<I", len(tensor.shape))
        infos += b"".join(struct.pack("<Q", n) for n in tensor.shape) + struct.pack("<IQ", tensor.kind, offset)
        place += tensor.size + -tensor.size % alignment
    counts = (
        len(tensors) if tensor_count is None else tensor_count,
        len(keys) if key_count is None else key_count,
    )
    header = magic + version + struct.pack("<QQ", *counts) + b"".join(keys) + infos
    data = (hashlib.sha256(seed).digest() * (place // 32 + 1))[:place]
    return header + b"\x00" * (-len(header) % alignment) + data


def big_gguf(seed: bytes, size: int = 300_000) -> bytes:
    """A model with one tensor of ``size`` bytes that do not compress."""
    elements = size // 32 * 32
    model = gguf_bytes(tensors=[Tensor("output.weight", (elements,), 24, elements)])
    noise = b"".join(hashlib.sha256(seed + n.to_bytes(4, "big")).digest() for n in range(elements // 32))
    return model[:-elements] + noise


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry(content: bytes, *sources: SourceSpec, name: str = "tiny:1b", size: int | None = None) -> Entry:
    """A catalogue entry for exactly this file."""
    return Entry(
        name=name,
        display_name="Tiny 1B",
        size=len(content) if size is None else size,
        type="text",
        capabilities=("completion",),
        description="For tests.",
        license="Apache-2.0",
        sha256=sha256(content),
        sources=sources,
    )


def wheel(folder: Path, package: str, data: dict[str, bytes], version: str = "1.0") -> Path:
    """A wheel that pip accepts, with ``data`` (path inside the package -> bytes)."""
    module = package.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        # Importing the package would fail the test run at once: nothing in a wheel may be run.
        archive.writestr(f"{module}/__init__.py", "raise SystemExit('a wheel was imported')\n")
        for name, content in data.items():
            archive.writestr(f"{module}/{name}", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def parts(folder: Path, content: bytes, count: int = 2) -> IndexSpec:
    """``content`` cut into ``count`` wheels in ``folder``, as the starter models lie in an index."""
    step = -(-len(content) // count)
    for n in range(count):
        piece = content[n * step : (n + 1) * step]
        wheel(folder, f"tiny-part{n + 1}", {"data/__init__.py": b"", f"data/part{n + 1}.bin": piece})
    return IndexSpec(tuple(f"tiny-part{n + 1}==1.0" for n in range(count)))


def tree(folder: Path) -> list[str]:
    """All files below ``folder``, locks left out."""
    found = (Path(parent, name).relative_to(folder) for parent, _, names in os.walk(folder) for name in names)
    return sorted(path.as_posix() for path in found if path.parts[0] != "locks")
