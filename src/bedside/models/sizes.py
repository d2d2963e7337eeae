"""Sizes in words a person reads, and the one check for room on a disk."""

import errno
import shutil
from pathlib import Path

from bedside.core.errors import BedsideError

_NO_ROOM = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def human(size: int) -> str:
    """Bytes in decimal units: ``491.4 MB``."""
    if size < 1000:
        return f"{size} B"
    value, units = float(size), iter(("kB", "MB", "GB", "TB", "PB", "EB"))
    unit = "B"
    while value >= 999.95 and (larger := next(units, "")):
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}"


def is_no_room(error: OSError) -> bool:
    """Whether the system refused a write because the disk, or the user's share of it, is full."""
    return error.errno in _NO_ROOM


def no_room(folder: Path, needed: int) -> BedsideError:
    """The ``DISK_FULL`` error for ``needed`` bytes that do not fit in ``folder``."""
    return BedsideError("DISK_FULL", path=folder, needed=human(needed), free=human(shutil.disk_usage(folder).free))


def check_room(folder: Path, needed: int) -> None:
    """Raises ``DISK_FULL`` when fewer than ``needed`` bytes are free on the disk of ``folder``."""
    if shutil.disk_usage(folder).free < needed:
        raise no_room(folder, needed)
