"""How fast the audit log makes records durable, and what one durable write costs on this disk.

A program of its own: ``python -m benchmarks.durable FOLDER SECONDS`` prints JSON. Times in milliseconds.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from time import perf_counter

from benchmarks.figures import quantile
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedside.audit.events import AuditRecord, Kind
from bedside.audit.log import AuditLog
from bedside.core.clock import SystemClock, new_id
from bedside.storage.filelock import file_lock
from bedside.vault import signer

_fsync = getattr(os, "fdatasync", os.fsync)
LINE = b"x" * 499 + b"\n"
"""As long as a usual record."""


def disk(path: Path, times: int = 300) -> dict[str, float]:
    """One line appended and made durable, over and over."""
    samples = []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for _ in range(times):
        began = perf_counter()
        os.write(fd, LINE)
        _fsync(fd)
        samples.append((perf_counter() - began) * 1000)
    os.close(fd)
    return {"median": quantile(samples, 0.5), "p99": quantile(samples, 0.99)}


async def rate(audit: AuditLog, writers: int, seconds: float) -> float:
    """Durable records per second, each writer waiting for its record before it writes the next."""
    began, written = perf_counter(), 0

    async def write() -> None:
        nonlocal written
        while perf_counter() - began < seconds:
            await audit.append(
                AuditRecord(
                    kind=Kind.INTENT,
                    request_id=new_id(),
                    actor="dr.lee",
                    role="provider",
                    action="clinical:task:run",
                    address="127.0.0.1",
                    model="tiny:latest",
                    prompt_hmac="0" * 64,
                )
            )
            written += 1

    await asyncio.gather(*(write() for _ in range(writers)))
    return written / (perf_counter() - began)


def main(folder: Path, seconds: float) -> None:
    key = signer(Ed25519PrivateKey.generate())
    audit = AuditLog(folder / "audit", key, SystemClock(), file_lock(folder / "audit" / "lock"))
    found: dict[str, object] = {f"writers_{n}": asyncio.run(rate(audit, n, seconds)) for n in (1, 64)}
    audit.close()
    print(json.dumps({**found, "disk_ms": disk(folder / "line")}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
