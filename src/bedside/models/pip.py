"""One wheel, fetched by ``pip download`` in a child process and not installed."""

import errno
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bedside.models.sources import Broken

LOOK_SECONDS = 0.2
_ADDRESS = re.compile(r"\w+://\S+")


def wheel(requirement: str, folder: Path, grown: Callable[[int], None]) -> Path:
    """The wheel of ``package==version``, in ``folder``; one that is already there and whole is kept.

    ``grown`` is told now and then how many bytes are there. Raises ``Broken``, or ``OSError`` for a full disk.
    """
    if (ready := _whole(requirement, folder)) is not None:
        return ready
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tmp").mkdir(parents=True)
    _download(requirement, folder, grown)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise Broken(f"pip brought no wheel for {requirement}")
    return wheels[0]


def _whole(requirement: str, folder: Path) -> Path | None:
    """A wheel that an earlier run fetched and did not come to use (PEP 427 file names)."""
    name, _, version = requirement.partition("==")
    start = f"{re.sub(r'[-_.]+', '_', name).lower()}-{version}-"
    for path in folder.glob("*.whl"):
        if path.name.lower().startswith(start) and zipfile.is_zipfile(path):
            return path
    return None


def _download(requirement: str, folder: Path, grown: Callable[[int], None]) -> None:
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    # No cache: a second copy of a model's worth of wheels would stay in the user's home.
    command += ["--no-cache-dir", "--no-input", "--progress-bar", "off", "--disable-pip-version-check"]
    # pip's own temporary folder is put here, so that its growth can be seen and a killed pip leaves nothing behind.
    temporary = str(folder / "tmp")
    environment = {**os.environ, "TMPDIR": temporary, "TEMP": temporary, "TMP": temporary}
    child = subprocess.Popen(  # noqa: S603 - our own interpreter, and a requirement the catalogue has checked
        [*command, "-d", str(folder), requirement],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        complaint = _watch(child, folder, grown)
    finally:
        _end(child)
    if child.returncode != 0:
        raise _failure(complaint)


def _watch(child: subprocess.Popen[bytes], folder: Path, grown: Callable[[int], None]) -> str:
    while True:
        try:
            _, complaint = child.communicate(timeout=LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            grown(_largest(folder))
        else:
            return complaint.decode(errors="replace")


def _end(child: subprocess.Popen[bytes]) -> None:
    """After Ctrl-C no pip stays behind."""
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(5)
    if child.poll() is None:
        child.kill()
        child.wait()


def _largest(folder: Path) -> int:
    """Bytes of the largest file below ``folder``: pip fetches into one file and then copies it."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # pip may just have moved it
                largest = max(largest, Path(parent, name).stat().st_size)
    return largest


def _failure(complaint: str) -> Broken | OSError:
    if os.strerror(errno.ENOSPC) in complaint:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    said = (errors or lines or ["it gave no reason"])[-1]
    # Addresses may hold the credentials of a mirror.
    return Broken("pip: " + _ADDRESS.sub("(address)", said)[:200].rstrip("."))
