"""What machine this is, as the status page shows it."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil


@dataclass(frozen=True, slots=True)
class SystemInfo:
    """Memory in bytes; ``cpu_count`` counts logical cores. ``gpus`` is what the embedded engine could use."""

    platform: str
    arch: str
    total_memory: int
    free_memory: int
    cpu_count: int
    gpus: Sequence[Mapping[str, object]] = field(default_factory=tuple)


def system_info(gpus: Sequence[Mapping[str, object]]) -> SystemInfo:
    """``free_memory`` is what programs can still get, caches given back."""
    memory = psutil.virtual_memory()
    cores = psutil.cpu_count() or 1
    return SystemInfo(platform.system().lower(), platform.machine(), memory.total, memory.available, cores, gpus)


def engine_threads() -> int:
    """Threads for a model: the physical cores, less one for everything else where there are more than two."""
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return cores - 1 if cores > 2 else cores


def free_memory() -> int:
    """Bytes that programs can still get, caches given back."""
    return int(psutil.virtual_memory().available)
