"""``bedside keys``: replacing one of the site's keys."""

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from bedside.storage.keys import KeyFolder
    from bedside.vault import Vault

app = App(name="keys", help_epilogue="", help="The site's keys.\n\nExamples:\n\n    bedside keys new token --dry-run")


@app.command
def new(
    name: Literal["token", "audit", "text"],
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    yes: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Replace a key, after saying what that costs. The old file stays beside the new one.

    Restart the gateway afterwards.

    Examples:

        bedside keys new token --dry-run
        bedside keys new token --yes

    Parameters
    ----------
    name
        token signs access tokens, audit signs the end of the audit log, text keys its hashes.
    dry_run
        Only say what would happen.
    yes
        Do it without asking.
    """
    from bedside.operations.configuration import load_settings
    from bedside.storage.keys import KEYS, KeyFolder

    folder = KeyFolder(load_settings().path("BEDSIDE_DATA") / "keys", fresh=False)
    print(f"A new {name} key: {KEYS[name]}")
    if dry_run:
        print("Nothing was changed.")
        return 0
    if not yes and input("Replace it? [y/N] ").strip().lower() != "y":
        print("Nothing was changed.")
        return 1
    if folder.path(name).exists():
        from bedside.cli.acting import act

        async def work(_: "Vault") -> None:
            folder.renew(name)

        act("site:keys:renew", name, work)
    else:
        # Without the key the data folder can't be opened, so this can be recorded only from now on.
        if name == "audit":
            _trust_last_signer(folder)
        folder.renew(name)
    print(f"Made {folder.path(name)}. Restart the gateway.")
    return 0


def _trust_last_signer(folder: "KeyFolder") -> None:
    """The key that signed the log so far is lost; from now on its public half is known by this file."""
    from bedside.audit.log import HEAD
    from bedside.core.chain import read_head

    path = folder.folder.parent / "audit" / HEAD
    head = read_head(path.read_bytes()) if path.exists() else None
    if head:
        folder.trust(head.key)
