"""The site's keys: one small file each, readable by its owner only, made once.

``token`` signs access tokens, ``audit`` signs the end of the audit log (both Ed25519), ``text`` keys the
hashes of prompts and answers in audit records (HMAC-SHA-256).
"""

import base64
import os
import secrets
import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedside.core.errors import BedsideError

KEYS = {
    "token": "Everyone has to sign in again.",
    "audit": "Heads of the log signed with the old key can't be renewed; keep the old public key with old copies.",
    "text": "Hashes in older audit records can't be compared with new ones.",
}
"""Each key, and what a new one costs."""


class KeyFolder:
    """``fresh`` says that the data folder is new: only then are missing keys made without being asked."""

    def __init__(self, folder: Path, *, fresh: bool) -> None:
        self.folder = folder
        self._fresh = fresh

    def signing(self, name: str) -> Ed25519PrivateKey:
        """An Ed25519 key. Raises ``KEY_MISSING`` or ``KEY_UNSAFE``."""
        self._read(name)
        return _load(self.path(name))

    def secret(self, name: str) -> bytes:
        """32 random bytes. Raises ``KEY_MISSING`` or ``KEY_UNSAFE``."""
        key = self._read(name)
        if len(key) != 32:
            raise BedsideError("KEY_UNSAFE", path=self.path(name), why="is damaged")
        return key

    def trusted(self) -> set[str]:
        """Public keys whose signatures on the audit log are the site's own: today's and earlier ones."""
        files = [self.path("audit"), *self.folder.glob("audit.key.*")]
        found = {public_key(_load(path)) for path in files if path.exists()}
        return found | set(_lines(self.folder / "audit.trusted"))

    def trust(self, key: str) -> None:
        """Takes a public key for the site's own although its file is lost."""
        with (self.folder / "audit.trusted").open("a", encoding="ascii") as file:
            file.write(f"{key}\n")

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def renew(self, name: str) -> Path:
        """Makes a new key; the old file is kept beside it with a number. Returns where the old one lies."""
        old, n = self.path(name), 1
        while (aside := old.with_suffix(f".key.{n}")).exists():
            n += 1
        if old.exists():
            old.rename(aside)
        self._make(name)
        return aside

    def _read(self, name: str) -> bytes:
        path = self.path(name)
        if not path.exists():
            if not self._fresh:
                raise BedsideError("KEY_MISSING", path=path, name=name)
            self._make(name)
        if sys.platform != "win32" and path.stat().st_mode & 0o077:
            raise BedsideError("KEY_UNSAFE", path=path, why="can be read by others")
        return path.read_bytes()

    def _make(self, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(32) if name == "text" else _pem(Ed25519PrivateKey.generate()))
            file.flush()
            os.fsync(file.fileno())


def public_key(key: Ed25519PrivateKey) -> str:
    """The public half in base64, as it stands in the head of the audit log."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")


def _load(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except ValueError:
        raise BedsideError("KEY_UNSAFE", path=path, why="is damaged") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BedsideError("KEY_UNSAFE", path=path, why="is not an Ed25519 key")
    return key


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").split() if path.exists() else []


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
