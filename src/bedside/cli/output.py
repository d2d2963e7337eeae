"""How commands print: plain text for people, one JSON document for programs."""

import json
import sys
from collections.abc import Sequence


def print_json(data: object) -> None:
    json.dump(data, sys.stdout, indent=2, default=str)
    print()


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; without a terminal the columns are only as wide as they must be, and nothing is cut."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(*headings, box=SIMPLE, pad_edge=False)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console()
    wide = console if console.is_terminal else Console(width=240)
    wide.print(table)
