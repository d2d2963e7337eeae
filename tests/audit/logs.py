"""A real log in a temporary folder, with a key of its own."""

import asyncio
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedside.audit.events import AuditRecord, Kind
from bedside.audit.log import AuditLog
from bedside.core.clock import Clock, SystemClock
from bedside.storage.filelock import file_lock
from bedside.vault import signer

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def open_log(folder: Path, clock: Clock | None = None) -> AuditLog:
    return AuditLog(folder, signer(KEY), clock or SystemClock(), file_lock(folder / "lock"))


def a_record(n: int = 0) -> AuditRecord:
    return AuditRecord(kind=Kind.EVENT, request_id=f"request-{n}", actor="dr.lee", action="local:status:read")


def write_log(folder: Path, records: int) -> Path:
    """A closed log of so many records; returns the file."""

    async def write() -> None:
        await asyncio.gather(*(log.append(a_record(n)) for n in range(records)))

    log = open_log(folder)
    asyncio.run(write())
    log.close()
    return folder / "log.jsonl"
