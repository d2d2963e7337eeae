"""``bedside users``: accounts, changed by whoever looks after this machine."""

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from bedside.cli.acting import act, vault_here
from bedside.cli.output import print_json, print_table

if TYPE_CHECKING:
    from bedside.core.stores import User
    from bedside.vault import Vault

app = App(
    name="users",
    help="Add and change accounts.\n\nExamples:\n\n    bedside users add dr.lee --role provider",
)
Json = Annotated[bool, Parameter(negative=(), help="Print one JSON document.")]
MANAGE = "site:users:manage"


@app.command
def add(name: str, *, role: Literal["admin", "provider", "staff"], json: Json = False) -> None:
    """Add a user and show the one-time password, which must be changed at first sign-in.

    Examples:

        bedside users add dr.lee --role provider

    Parameters
    ----------
    name
        User name: small letters, digits, dots, dashes, underscores.
    role
        admin: everything; provider: clinical work; staff: read only.
    """
    from bedside.core.request import Role

    async def work(vault: "Vault") -> str:
        return await vault.accounts.add(name, Role(role))

    _show(name, act(MANAGE, name, work), json)


@app.command(name="list")
def list_(*, json: Json = False) -> None:
    """List the accounts."""
    import asyncio

    from bedside.core.clock import iso
    from bedside.operations.configuration import load_settings

    users = []
    if (load_settings().path("BEDSIDE_DATA") / "bedside.db").exists():  # a look makes no data folder
        with vault_here() as vault:
            users = asyncio.run(vault.accounts.list())
    if json:
        print_json(
            [{"username": u.username, "role": u.role, "state": _state(u), "created": iso(u.created)} for u in users]
        )
    else:
        print_table(
            ("User", "Role", "State", "Since"), [(u.username, u.role, _state(u), iso(u.created)) for u in users]
        )


@app.command(name="reset-password")
def reset_password(name: str, *, json: Json = False) -> None:
    """Set a new one-time password and end all sign-ins of the user.

    Examples:

        bedside users reset-password dr.lee
    """

    async def work(vault: "Vault") -> str:
        return await vault.accounts.reset_password(name)

    _show(name, act(MANAGE, name, work), json)


@app.command
def disable(name: str) -> None:
    """Switch an account off and end its sign-ins. Doing it twice changes nothing."""
    _switch(name, disabled=True)


@app.command
def enable(name: str) -> None:
    """Switch an account on again. Doing it twice changes nothing."""
    _switch(name, disabled=False)


def _switch(name: str, *, disabled: bool) -> None:
    async def work(vault: "Vault") -> None:
        await vault.accounts.set_disabled(name, disabled)

    act(MANAGE, name, work)
    print(f"{name} is {'off' if disabled else 'on'}.")


def _show(name: str, password: str, json: bool) -> None:
    if json:
        print_json({"username": name, "oneTimePassword": password})
    else:
        print(f"One-time password of {name}, shown only now: {password}\nIt must be changed at the first sign-in.")


def _state(user: "User") -> str:
    if user.disabled:
        return "off"
    return "one-time password" if user.must_change_password else "on"
