"""The data folder as one thing: opened by the gateway and by every command that works on it. Wiring."""

import base64
from collections.abc import Collection
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedside.audit.events import AuditRecord, Kind
from bedside.audit.log import LOG, AuditLog, Signer
from bedside.core.clock import Clock, new_id
from bedside.core.errors import BedsideError
from bedside.core.request import Role
from bedside.core.settings import Settings
from bedside.gateway.recorded import recorded
from bedside.identity.accounts import Accounts
from bedside.identity.passwords import Passwords
from bedside.identity.tokens import AccessTokens
from bedside.storage.accounts import SqlAccounts
from bedside.storage.database import Database
from bedside.storage.filelock import file_lock
from bedside.storage.keys import KeyFolder, public_key

OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Vault:
    """What a data folder holds: accounts, audit log and keys; all that a command line act needs."""

    accounts: Accounts
    audit: AuditLog
    database: Database
    text_key: bytes

    def close(self) -> None:
        self.accounts.close()
        self.audit.close()
        self.database.close()


def open_vault(settings: Settings, clock: Clock, passwords: Passwords | None = None) -> Vault:
    """Opens the data folder, and makes it if it is not there. Refuses one that has lost its log or its keys."""
    folder = settings.path("BEDSIDE_DATA")
    fresh = not (folder / "bedside.db").exists()
    log = folder / "audit" / LOG
    logged = log.exists() and log.stat().st_size > 0
    if fresh and logged:
        raise BedsideError("STORE_MISSING", path=folder / "bedside.db")
    database = Database(folder)
    if not logged and database.in_use():
        raise BedsideError("AUDIT_BROKEN", why="the log is gone though the data folder is in use")
    keys = KeyFolder(folder / "keys", fresh=fresh)
    audit = AuditLog(
        folder / "audit", signer(keys.signing("audit"), keys.trusted()), clock, file_lock(folder / "audit" / "lock")
    )
    accounts = Accounts(
        SqlAccounts(database, clock),
        AccessTokens(keys.signing("token"), settings.number("BEDSIDE_TOKEN_MINUTES"), clock),
        clock,
        refresh_hours=settings.number("BEDSIDE_REFRESH_HOURS"),
        passwords=passwords,
    )
    return Vault(accounts, audit, database, keys.secret("text"))


def signer(key: Ed25519PrivateKey, trusted: Collection[str] = ()) -> Signer:
    """The audit log's signer over a key file; ``trusted`` are the site's earlier public keys."""
    public = public_key(key)
    return Signer(public, lambda data: base64.b64encode(key.sign(data)).decode("ascii"), {public, *trusted})


async def first_admin(vault: Vault) -> str | None:
    """Makes ``admin`` when there is no user yet, and returns the one-time password; else ``None``."""
    if await vault.accounts.list():
        return None
    record = operator_record("site:users:manage", "admin")
    return await recorded(vault.audit, record, lambda: vault.accounts.add("admin", Role.ADMIN))


def operator_record(action: str, subject: str | None = None) -> AuditRecord:
    """The record of something done at this machine's command line."""
    return AuditRecord(kind=Kind.INTENT, request_id=new_id(), actor=OPERATOR, action=action, subject=subject)
