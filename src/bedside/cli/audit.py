"""``bedside audit``: is the log whole?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from bedside.core.errors import BedsideError

if TYPE_CHECKING:
    from bedside.audit.verify import Verdict

app = App(
    name="audit",
    help="Check the audit log.\n\nExamples:\n\n    bedside audit verify\n    bedside audit verify --file COPY",
)
Json = Annotated[bool, Parameter(negative=(), help="Print one JSON document.")]


@app.command
def verify(
    *,
    file: Path | None = None,
    head: Path | None = None,
    key: str | None = None,
    no_head: Annotated[bool, Parameter(negative=())] = False,
    expect: str | None = None,
    json: Json = False,
) -> int:
    """Read the log and name the first record that was edited, removed, added or moved. Writes nothing.

    Exit code 0: whole; 1: not whole.

    Examples:

        bedside audit verify
        bedside audit verify --file /mnt/copy/log.jsonl --head /mnt/copy/head
        bedside audit verify --expect 1200:4f0c...

    Parameters
    ----------
    file
        A copy of the log instead of the site's own.
    head
        The head file that belongs to the copy; by default the one beside it, else the site's own.
    key
        The public key that must have signed the head; by default this site's own keys.
    no_head
        Check the chain alone: records cut off the end can't be noticed then.
    expect
        A checkpoint that was noted earlier: the record's number and hash, with a colon between.
    """
    from bedside.audit.verify import as_json
    from bedside.audit.verify import verify as check

    log, head = _files(file, head)
    try:
        verdict = check(log, None if no_head else head, _checkpoint(expect), {key} if key else _own_keys())
    except OSError as why:
        raise BedsideError("FILE_UNREADABLE", path=why.filename or log, why=why.strerror) from None
    print(as_json(verdict) if json else "\n".join(_lines(verdict, log)))
    return 0 if verdict.whole else 1


@app.command
def checkpoint(*, json: Json = False) -> int:
    """Print where the log ends now. Keep the line away from this machine, and give it back with --expect.

    Examples:

        bedside audit checkpoint >> /mnt/elsewhere/checkpoints.txt
    """
    from bedside.audit.verify import as_json
    from bedside.audit.verify import verify as check

    log, head = _files(None, None)
    try:
        verdict = check(log, head, None, _own_keys())
    except OSError as why:
        raise BedsideError("FILE_UNREADABLE", path=why.filename or log, why=why.strerror) from None
    if not verdict.whole:
        print("\n".join(_lines(verdict, log)))
        return 1
    print(as_json(verdict) if json else f"{verdict.records}:{verdict.last_hash}")
    return 0


def _files(file: Path | None, head: Path | None) -> tuple[Path, Path | None]:
    from bedside.audit.log import HEAD, LOG
    from bedside.operations.configuration import load_settings

    folder = load_settings().path("BEDSIDE_DATA") / "audit"
    log = file or folder / LOG
    if file is None:
        return log, head or folder / HEAD
    return log, head or next((path for path in (log.with_name(HEAD), folder / HEAD) if path.exists()), None)


def _own_keys() -> set[str] | None:
    """The site's public keys; ``None`` on a machine that has no data folder, such as an auditor's."""
    from bedside.operations.configuration import load_settings
    from bedside.storage.keys import KeyFolder

    return KeyFolder(load_settings().path("BEDSIDE_DATA") / "keys", fresh=False).trusted() or None


def _checkpoint(expect: str | None) -> tuple[int, str] | None:
    if expect is None:
        return None
    seq, _, digest = expect.strip().partition(":")
    if not seq.isdigit() or len(digest) != 64:
        raise BedsideError("COMMAND_WRONG", why="--expect is not NUMBER:HASH as 'bedside audit checkpoint' prints it.")
    return int(seq), digest


def _lines(verdict: "Verdict", log: Path) -> list[str]:
    signed = f"signed head at record {verdict.head}" if verdict.head else "no signed head to compare with"
    if verdict.whole:
        lines = [f"The audit log is whole: {verdict.records} records, {signed}."]
    else:
        where = f" First bad: record {verdict.first_bad}." if verdict.first_bad else ""
        lines = [f"The audit log {log} is NOT whole: {verdict.problem}.{where}"]
    if verdict.key:
        lines.append(f"Key of the head: {verdict.key}")
    lines += [f"Interrupted before its end: {intent}" for intent in verdict.open_intents]
    return lines + [f"Note: {note}." for note in verdict.notes]
