"""Reads an audit log and says whether it is whole. Writes nothing, and needs nothing of the program around it.

What is found: any record that was edited, removed, added or moved (the chain breaks there), and records
cut off the end (the signed head knows where the log ended). What can't be found from the log alone:
whoever holds the machine *and* its audit key can write another history; keep a checkpoint
(``bedside audit checkpoint``) elsewhere and give it back with ``--expect``.
"""

import base64
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from bedside.core.chain import GENESIS, BrokenLine, Head, Link, read, read_head


@dataclass
class Verdict:
    """What the verifier found. ``first_bad`` is the line number (1, 2 ...) where the chain first breaks."""

    records: int = 0
    last_hash: str = GENESIS
    first_bad: int | None = None
    problem: str | None = None
    head: int | None = None
    key: str | None = None
    open_intents: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return self.problem is None

    def fail(self, problem: str, line: int | None = None) -> "Verdict":
        self.problem, self.first_bad = problem, line
        return self


def verify(
    log: Path, head: Path | None, expect: tuple[int, str] | None = None, keys: Collection[str] | None = None
) -> Verdict:
    """Checks ``log`` against its own chain, the signed ``head`` file, and a checkpoint kept elsewhere.

    ``keys`` are the public keys (base64) that may have signed the head; ``None``: any, and the verdict shows which.
    ``head=None`` checks the chain alone. Raises ``OSError`` when a file can't be read.
    """
    slots = head.read_bytes() if head else b""  # before the log, which only grows
    verdict, hashes_wanted = Verdict(), {}
    signed = read_head(slots)
    if head and signed is None and log.stat().st_size:
        return verdict.fail("its head file holds no readable head, so nobody can say where the log ended")
    if signed:
        verdict.head, verdict.key = signed.seq, signed.key
        if problem := _signature_problem(signed, keys, verdict):
            return verdict.fail(problem)
        hashes_wanted[signed.seq] = signed.hash
    if expect:
        hashes_wanted.setdefault(expect[0], expect[1])
        if hashes_wanted[expect[0]] != expect[1]:
            return verdict.fail(f"record {expect[0]} is not the one in the checkpoint", expect[0])
    _walk(log, verdict, hashes_wanted)
    missing = max(hashes_wanted, default=0)
    if verdict.whole and missing > verdict.records:
        cut = f"records {verdict.records + 1} to {missing} are missing at the end"
        verdict.fail(f"{cut} (cut off, or this copy is older than the head)", verdict.records + 1)
    return verdict


def _walk(log: Path, verdict: Verdict, wanted: dict[int, str]) -> None:
    opened: dict[str, str] = {}
    with log.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n") and number > max(wanted, default=0):
                verdict.notes.append("a last line is still being written, or was cut by a crash before it counted")
                break
            try:
                found = read(line.rstrip(b"\n"))
                _check_place(found, verdict, wanted)
            except BrokenLine as why:
                verdict.fail(f"line {number} is bad: {why}", number)
                return
            verdict.records, verdict.last_hash = found.seq, found.hash
            _follow_intents(found, opened)
    verdict.open_intents = list(opened.values())


def _check_place(found: Link, verdict: Verdict, wanted: dict[int, str]) -> None:
    if found.seq != verdict.records + 1:
        raise BrokenLine(f"record {verdict.records + 1} should stand here, record {found.seq} does: removed or moved")
    if found.prev != verdict.last_hash:
        raise BrokenLine("it does not follow the record before it")
    if wanted.get(found.seq, found.hash) != found.hash:
        raise BrokenLine("it is not the record that was signed: history was written anew")


def _follow_intents(found: Link, opened: dict[str, str]) -> None:
    """An intent without an outcome is an act that a crash or a power cut interrupted."""
    request, action = str(found.fields.get("request_id")), str(found.fields.get("action"))
    key = f"{request} {action}"
    if found.fields.get("kind") == "intent":
        opened[key] = f"record {found.seq}: {action}"
    elif found.fields.get("kind") == "outcome":
        opened.pop(key, None)


def _signature_problem(head: Head, keys: Collection[str] | None, verdict: Verdict) -> str | None:
    if keys is not None and head.key not in keys:
        return f"its head was signed by a key that is not this site's ({head.key})"
    good = signature_is_good(head)
    if good is None:
        verdict.notes.append("the head's signature was not checked: the package 'cryptography' is not here")
    return "the head's signature is not good: the head was changed" if good is False else None


def signature_is_good(head: Head) -> bool | None:
    """Ed25519 needs the ``cryptography`` package: ``None`` where that is missing."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return None
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(head.key, validate=True))
        key.verify(base64.b64decode(head.signature, validate=True), Head.signed(head.seq, head.hash, head.end))
    except (InvalidSignature, ValueError):
        return False
    return True


def as_json(verdict: Verdict) -> str:
    """The verdict for programs."""
    return json.dumps(
        {
            "whole": verdict.whole,
            "records": verdict.records,
            "lastHash": verdict.last_hash,
            "firstBad": verdict.first_bad,
            "problem": verdict.problem,
            "head": verdict.head,
            "key": verdict.key,
            "openIntents": verdict.open_intents,
            "notes": verdict.notes,
        }
    )
