"""What machine the figures come from, and how busy it was."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

LIBRARIES = ("bedside", "starlette", "uvicorn", "uvloop", "httptools", "aiohttp", "pydantic", "xllamacpp")


def facts(command: Sequence[str]) -> dict[str, Any]:
    return {
        "command": " ".join(command),
        "cpu": _cpu(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES if name != "uvloop" or os.name != "nt"},
        "pinned": False,
        "load_at_start": busy(),
    }


def busy() -> float:
    """Processes that wanted a core, averaged over the last minute."""
    return round(psutil.getloadavg()[0], 2)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
