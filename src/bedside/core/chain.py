"""The form of one line of the audit log, and how it is chained to the line before. Pure bytes, no I/O.

A line is one JSON object whose last member is ``hash``, the SHA-256 of every byte of the line before
``,"hash"``. The hashed part holds ``seq`` (1, 2, 3 ...) and ``prev``, the hash of the line before, so no
line can be changed, dropped, added or moved without breaking the chain from there on. Hashing the bytes
as they lie on disk needs no canonical JSON.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields

GENESIS = "0" * 64
_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=False)
_TAIL = b',"hash":"'
_TAIL_LENGTH = len(_TAIL) + 64 + len(b'"}')


class BrokenLine(ValueError):
    """A line that is not what ``link`` writes, with the reason in words."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a line says of its place in the chain, and its fields."""

    seq: int
    prev: str
    hash: str
    fields: Mapping[str, object]


def link(seq: int, prev: str, fields: Mapping[str, object]) -> tuple[bytes, str]:
    """The line (with its newline) that follows the line whose hash is ``prev``, and its own hash."""
    members = {"seq": seq, "prev": prev, **fields}
    body = _JSON.encode(members)[:-1].encode("ascii")
    digest = hashlib.sha256(body).hexdigest()
    return body + _TAIL + digest.encode("ascii") + b'"}\n', digest


def read(line: bytes) -> Link:
    """Checks one line (without its newline) by itself. Raises ``BrokenLine``."""
    body, tail = line[:-_TAIL_LENGTH], line[-_TAIL_LENGTH:]
    if not tail.startswith(_TAIL) or not tail.endswith(b'"}'):
        raise BrokenLine("it does not end with its hash")
    digest = tail[len(_TAIL) : -2].decode("ascii", "replace")
    if hashlib.sha256(body).hexdigest() != digest:
        raise BrokenLine("its words do not match its hash: it was edited")
    fields = _members(body + b"}")
    seq, prev = fields.pop("seq", None), fields.pop("prev", None)
    if not isinstance(seq, int) or not isinstance(prev, str):
        raise BrokenLine("it has no place in the chain")
    return Link(seq, prev, digest, fields)


def _members(text: bytes) -> dict[str, object]:
    try:
        members = json.loads(text)
    except ValueError:
        raise BrokenLine("it is not JSON") from None
    if not isinstance(members, dict):
        raise BrokenLine("it is not a JSON object")
    return members


def follow(lines: bytes, seq: int, prev: str) -> tuple[int, str]:
    """Checks whole lines that come after record ``seq`` with hash ``prev``; the new end. Raises ``BrokenLine``."""
    for line in lines.splitlines():
        found = read(line)
        if (found.seq, found.prev) != (seq + 1, prev):
            raise BrokenLine(f"record {found.seq} does not follow record {seq}")
        seq, prev = found.seq, found.hash
    return seq, prev


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log ended when it was last signed: number, hash and end (in bytes) of its last record.

    ``key`` and ``signature`` are base64: Ed25519 (RFC 8032) over ``signed``.
    """

    seq: int
    hash: str
    end: int
    key: str
    signature: str

    @staticmethod
    def signed(seq: int, hash_: str, end: int) -> bytes:
        return f"bedside audit head v1\n{seq}\n{hash_}\n{end}\n".encode("ascii")


HEAD_SLOT = 512
_HEAD_FIELDS = tuple(field.name for field in fields(Head))


def head_slot(head: Head) -> bytes:
    """A head as a fixed-size record; two of them, written in turn, survive a torn write."""
    members = {name: getattr(head, name) for name in _HEAD_FIELDS}
    return json.dumps(members).encode("ascii").ljust(HEAD_SLOT - 1) + b"\n"


def read_head(slots: bytes) -> Head | None:
    """The newest readable head of a head file, or ``None`` when there is none."""
    found = [_head(slots[i : i + HEAD_SLOT]) for i in range(0, len(slots), HEAD_SLOT)]
    return max((head for head in found if head), key=lambda head: head.seq, default=None)


def _head(slot: bytes) -> Head | None:
    try:
        head = Head(**json.loads(slot))
    except (ValueError, TypeError):
        return None
    numbers, words = (head.seq, head.end), (head.hash, head.key, head.signature)
    whole = all(type(n) is int and n > 0 for n in numbers) and all(isinstance(w, str) for w in words)
    return head if whole else None
