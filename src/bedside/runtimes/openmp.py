"""Finds OpenMP for the engine on a Linux that came without it.

The engine's wheel wants the system's ``libgomp.so.1``, which Debian and Ubuntu bring with a compiler and not
with Python. LLVM's runtime speaks the same interface and comes as a package (``cmeel-libomp``).
"""

import ctypes
import functools
import os
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files

NAME = "libgomp.so.1"


def with_openmp(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of an engine, so that its loader finds OpenMP and its threads yield.

    Threads that wait by spinning starve everything else on a small machine, the gateway first, and then each
    other; ``passive`` lets them sleep. An operator's own choice wins.
    """
    found = {"OMP_WAIT_POLICY": "passive", **environment}
    if folder := _packaged_folder():
        found["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, (environment.get("LD_LIBRARY_PATH"), folder)))
    return found


@functools.cache
def _packaged_folder() -> str | None:
    """Where the package put the library; ``None`` when the system has its own, or there is no need of one."""
    if sys.platform != "linux" or _system_has_it():
        return None
    try:
        found = next(path for path in files("cmeel-libomp") or () if path.name == NAME)
    except (PackageNotFoundError, StopIteration):
        return None
    return os.path.dirname(found.locate())


def _system_has_it() -> bool:
    try:
        ctypes.CDLL(NAME)
    except OSError:
        return False
    return True
