"""Finds the command, runs it, and turns errors into one line of cause and one of cure."""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from bedside import __version__
from bedside.core.errors import BedsideError, Kind

EXIT_CODES = {Kind.SETUP: 2, Kind.INVALID: 2}
"""Exit codes by kind of error: 2 the set-up or the command is wrong, 1 everything else, 130 interrupted."""

EXAMPLES = """Examples:

    bedside serve
    bedside users add dr.lee --role provider
    bedside models pull qwen2.5-coder:0.5b --allow-download
    bedside audit verify

Every command takes --debug, to show where an error came from.
"""

app = App(
    name="bedside",
    help="Clinical AI that stays in the building: a lock, a log and a queue in front of local models.",
    help_epilogue=EXAMPLES,
    help_format="plaintext",
    version=__version__,
)
for _name, _help in (
    ("serve", "Start the gateway and stay."),
    ("demo", "Draft a SOAP note with a real model in a throw-away gateway."),
    ("settings", "Show the settings in force and where each came from."),
):
    app.command(f"bedside.cli.{_name}:{_name}", name=_name, help=_help)
for _name, _help in (
    ("audit", "Check the audit log."),
    ("models", "Get, list and remove model files."),
    ("users", "Add and change accounts."),
    ("keys", "The site's keys."),
):
    app.command(f"bedside.cli.{_name}:app", name=_name, help=_help)
app.register_install_completion_command(name="completion", help="Install completion for your shell.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. ``--debug`` anywhere shows tracebacks."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in tokens
    tokens = [word for word in tokens if word != "--debug"]
    try:
        result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except BedsideError as why:
        if debug:
            raise
        _say(why)
        return EXIT_CODES.get(why.kind, 1)
    except CycloptsError as why:
        _say(BedsideError("COMMAND_WRONG", why=_first_line(why)))
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as why:
        if debug:
            raise
        _say(BedsideError("COMMAND_FAILED", what=type(why).__name__))
        return 1
    return result if isinstance(result, int) else 0


def _first_line(why: CycloptsError) -> str:
    return next((line.strip() for line in str(why).splitlines() if line.strip()), "That is no command.")


def _say(why: BedsideError) -> None:
    print(f"bedside: {why.cause} [{why.code}]\n  {why.cure}", file=sys.stderr)
