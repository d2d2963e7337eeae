"""``bedside settings``: what is in force, and where it came from."""

from typing import Annotated

from cyclopts import Parameter

from bedside.cli.output import print_json, print_table


def settings(*, json: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Show the settings in force and where each came from; secrets are masked.

    Examples:

        bedside settings
        bedside settings --json

    Parameters
    ----------
    json
        Print one JSON document.
    """
    from bedside.operations.configuration import load_settings

    rows = load_settings().resolved.values()
    if json:
        print_json(
            [
                {"name": row.setting.name, "value": row.shown, "source": row.source, "help": row.setting.help}
                for row in rows
            ]
        )
    else:
        print_table(("Setting", "Value", "From"), [(row.setting.name, row.shown or "-", row.source) for row in rows])
