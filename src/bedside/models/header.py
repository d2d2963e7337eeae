"""Reads the typed values at the front of a GGUF file, in order, without trusting any number in it.

A window of the file is in memory, never more; what is skipped is not read. Source: the GGUF specification
in the ggml repository (docs/gguf.md), section "File Structure".
"""

from struct import Struct
from typing import BinaryIO

from bedside.models.ggml import ARRAY, SCALARS, STRING

WINDOW = 1 << 20
LONGEST_HEADER = 256 << 20
LONGEST_KEY = 1024
LONGEST_KEPT = 1024
MOST_ELEMENTS = 1 << 22

_STRUCTS = {kind: Struct("<" + code) for kind, code in SCALARS.items()}
_U32, _U64 = Struct("<I"), Struct("<Q")

Value = int | float | bool | str | None


class Unsound(Exception):
    """What is wrong with the file, in words; it holds nothing out of the file itself."""


class Reader:
    """Sequential reader over ``file``, which is ``size`` bytes long. Every method raises ``Unsound``."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._end = min(size, LONGEST_HEADER)
        self._cut = size > LONGEST_HEADER
        self._window = b""
        self._start = 0
        self._at = 0

    @property
    def position(self) -> int:
        """Bytes of the file that were read or skipped so far."""
        return self._start + self._at

    def u32(self) -> int:
        return int(self._unpack(_U32))

    def u64(self) -> int:
        return int(self._unpack(_U64))

    def text(self, longest: int) -> str:
        """A string of at most ``longest`` bytes."""
        length = self.u64()
        if length > longest:
            raise Unsound("a name in its header is too long")
        return self._decode(length)

    def value(self, kind: int) -> Value:
        """A metadata value of type ``kind``; ``None`` for one that is skipped: an array, or a long string."""
        if kind in _STRUCTS:
            return self._unpack(_STRUCTS[kind])
        if kind == STRING:
            return self._short_string()
        if kind == ARRAY:
            self._skip_array()
            return None
        raise Unsound("its header has a value of an unknown type")

    def _short_string(self) -> str | None:
        length = self.u64()
        if length <= LONGEST_KEPT:
            return self._decode(length)
        self._skip(length)
        return None

    def _skip_array(self) -> None:
        kind, count = self.u32(), self.u64()
        if kind == STRING:
            self._skip_strings(self._bounded(count))
        elif kind in _STRUCTS:
            self._skip(self._bounded(count) * _STRUCTS[kind].size)
        else:
            # Arrays of arrays are in the format but no engine loads them, so there is no depth to follow.
            raise Unsound("its header has a list of an unknown type")

    def _bounded(self, count: int) -> int:
        if count > MOST_ELEMENTS:
            raise Unsound("a list in its header is too long")
        return count

    def _skip_strings(self, count: int) -> None:
        # Vocabularies have hundreds of thousands of entries, so this loop keeps everything in locals.
        unpack = _U64.unpack_from
        window, at, end = self._window, self._at, len(self._window)
        for _ in range(count):
            if at + 8 > end:
                self._at = at
                self._fill(8)
                window, at, end = self._window, self._at, len(self._window)
            at += 8 + unpack(window, at)[0]
        self._at = at
        self._fill(0)

    def _unpack(self, layout: Struct) -> int | float | bool:
        self._fill(layout.size)
        value: int | float | bool = layout.unpack_from(self._window, self._at)[0]
        self._at += layout.size
        return value

    def _decode(self, length: int) -> str:
        self._fill(length)
        raw = self._window[self._at : self._at + length]
        self._at += length
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise Unsound("a text in its header is not UTF-8") from None

    def _skip(self, length: int) -> None:
        self._at += length
        self._fill(0)

    def _fill(self, needed: int) -> None:
        """Makes ``needed`` bytes from the current position on available; callers keep ``needed`` small."""
        if self._at + needed <= len(self._window):
            return
        if self.position + needed > self._end:
            raise Unsound("its header is too long" if self._cut else "it ends in the middle of its header")
        self._start, self._at = self.position, 0
        self._file.seek(self._start)
        self._window = self._file.read(WINDOW)
        if len(self._window) < needed:
            raise Unsound("it ends in the middle of its header")
