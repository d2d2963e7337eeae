"""Sets up the project's own environment: ``python3 tools/set_up.py [--dev]``. Does nothing a second time.

Needs Python 3.11 or newer and nothing else: Debian and Ubuntu leave pip and ensurepip out, so pip comes as
the wheel beside this file, checked against the lock file like everything it installs. Packages come from
wherever the site's own pip settings point.
"""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
PIP_WHEEL = next((ROOT / "tools").glob("pip-*.whl"))


def main() -> None:
    if sys.version_info < (3, 11):
        sys.exit(f"bedside needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: make PYTHON=python3.12")
    lock = ROOT / ("requirements-dev.lock" if "--dev" in sys.argv else "requirements.lock")
    wanted, stamp = fingerprint(lock), VENV / f"{lock.stem}.ready"
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    check_pip(lock)
    if not PYTHON.exists():
        print("Making .venv ...", flush=True)
        venv.create(VENV, symlinks=sys.platform != "win32", with_pip=False)
    print(f"Installing what {lock.name} names ...", flush=True)
    # The lock file names everything that is needed, so pip need not look for more.
    pip("install", "--no-deps", "--require-hashes", "--only-binary=:all:", "-r", str(lock))
    pip("install", "--no-deps", "--no-build-isolation", "--no-index", "-e", str(ROOT))
    stamp.write_text(wanted)


def fingerprint(lock: Path) -> str:
    """Changes whenever what must be installed changes."""
    parts = (lock.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), sys.version.encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def check_pip(lock: Path) -> None:
    digest = hashlib.sha256(PIP_WHEEL.read_bytes()).hexdigest()
    if f"sha256:{digest}" not in lock.read_text():
        sys.exit(f"{PIP_WHEEL.name} is not the file that {lock.name} names. Get a clean copy of the project.")


def pip(*arguments: str) -> None:
    # A wheel is a zip file that Python can run from.
    done = subprocess.run([str(PYTHON), f"{PIP_WHEEL}/pip", "--disable-pip-version-check", *arguments, "-q"])
    if done.returncode:
        sys.exit(
            "The installation stopped. Behind a proxy or with a package mirror, set pip's own settings (pip.conf)."
        )


if __name__ == "__main__":
    main()
