"""Writes ``docs/reference/`` from the tables in the code: ``make docs``.

Every page is a function of the code alone, so ``tests/test_docs.py`` can make it again and compare.
"""

import ast
import inspect
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from cyclopts import App

from bedside.api.calls import Call
from bedside.api.openapi import describe, errors_of
from bedside.api.problems import STATUS
from bedside.api.rest import Rest
from bedside.audit import events as audit_events
from bedside.audit.events import AuditRecord
from bedside.audit.events import Kind as RecordKind
from bedside.cli.main import EXIT_CODES
from bedside.cli.main import app as command_line
from bedside.core.errors import ERRORS
from bedside.core.request import Role
from bedside.core.settings import SETTINGS, resolve
from bedside.identity.actions import ACTIONS
from bedside.identity.roles import ANYONE, OPERATOR, ROLES, WITH_ONE_TIME_PASSWORD
from bedside.models.catalogue import built_in
from bedside.server import build
from bedside.site import RunningSite

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
EXAMPLE = ROOT / "example.env"
MADE = "<!-- Made by tools/reference.py from the code. Change the code, then run: make docs -->"
Document = Mapping[str, Any]


def main() -> None:
    """Writes every page, and the example settings file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8", newline="\n")
    EXAMPLE.write_text(example_env(), encoding="utf-8", newline="\n")


def pages() -> dict[str, str]:
    """File name in ``docs/reference/`` to its text."""
    makers: Mapping[str, Callable[[], str]] = {
        "settings.md": settings_page,
        "actions.md": actions_page,
        "roles.md": roles_page,
        "events.md": events_page,
        "errors.md": errors_page,
        "cli.md": cli_page,
        "rest.md": rest_page,
    }
    return {name: make() for name, make in makers.items()}


def settings_page() -> str:
    rows = [
        (f"`{row.name}`", f"`{row.default}`" if row.default else "(empty)", row.help, "yes" if row.secret else "")
        for row in SETTINGS.values()
    ]
    about = (
        "Read from the environment, then `.env`, then `bedside.toml`, both in the working folder; the first that "
        "names a setting wins. `bedside settings` shows what is in force and where each came from. The user and "
        "password in the address of a setting marked as secret are masked there. `example.env` holds every setting "
        "with its default."
    )
    return _page("Settings", about, _table(("Setting", "Default", "Meaning", "Secret"), rows))


def example_env() -> str:
    """A ``.env`` file that names every setting with its default."""
    parts = ["# Copy to .env and keep the lines you need. Made by tools/reference.py: every setting with its default."]
    parts += [f"# {row.help}\n{row.name}={row.default}" for row in SETTINGS.values()]
    return "\n\n".join(parts) + "\n"


def actions_page() -> str:
    rows = [(f"`{row.name}`", row.sort.value, row.help, _who(row.name)) for row in ACTIONS.values()]
    about = (
        "Everything that anyone can do, one row each. A `read` is one record in the audit log before it; a `change` "
        "and a `model` use are an intent before and an outcome after. What is not in this table can't be done."
    )
    return _page("Actions", about, _table(("Action", "Sort", "Meaning", "Who may"), rows))


def roles_page() -> str:
    roles = [Role.STAFF, Role.PROVIDER, Role.ADMIN]
    headings = ("Action", *(role.value for role in roles), "without sign-in", "command line")
    rows = [
        (
            f"`{name}`",
            *(_yes(name in ROLES[role] or name in ANYONE) for role in roles),
            _yes(name in ANYONE),
            _yes(name in OPERATOR),
        )
        for name in ACTIONS
    ]
    first = ", ".join(f"`{name}`" for name in ACTIONS if name in WITH_ONE_TIME_PASSWORD)
    about = (
        "Who may do what. What has no `yes` is denied. The last column is the person at this machine's command line: "
        f"whoever owns the data folder.\n\nUntil a one-time password is changed, a signed-in user may only: {first}."
    )
    return _page("Roles", about, _table(headings, rows))


def events_page() -> str:
    described = _field_docs(AuditRecord)
    chain = [
        ("`seq`", "Number of the record: 1, 2, 3 ... without a gap."),
        ("`prev`", "The hash of the record before; 64 zeros in the first."),
    ]
    fields = [(f"`{name}`", described[name]) for name in audit_events.FIELDS]
    last = [("`hash`", "SHA-256 of every byte of the line before this member.")]
    kinds = [(f"`{kind.value}`",) for kind in RecordKind]
    outcomes = [(f"`{outcome.value}`",) for outcome in audit_events.Outcome]
    about = (
        "One line of `audit/log.jsonl` is one JSON object with these members, in this order; a member that has no "
        "value is left out. No record holds a prompt or an answer."
    )
    words = f"`kind` is one of {_list(kinds)}: {_sentence(RecordKind)}\n\n`outcome` is one of {_list(outcomes)}."
    return _page("Audit records", about, _table(("Member", "Meaning"), [*chain, *fields, *last]), words)


def errors_page() -> str:
    rows = [
        (
            f"`{code}`",
            str(STATUS[spec.kind]),
            str(EXIT_CODES.get(spec.kind, 1)),
            _shown(spec.message),
            _shown(spec.cure),
        )
        for code, spec in ERRORS.items()
    ]
    about = (
        "Every error that a user can meet, with its cause and its cure. `HTTP` is the status of a REST answer, `Exit` "
        "the exit code of a command; words in angle brackets are filled in."
    )
    return _page("Errors", about, _table(("Code", "HTTP", "Exit", "Cause", "Cure"), rows))


def cli_page() -> str:
    text = command_line.generate_docs(output_format="markdown", usage_name="bedside")
    # Under "python -m NAME" the library puts "-m NAME" into the usage lines of inner commands.
    started_as = App().name[0].partition(" ")[2]
    body = (text.replace(f" {started_as}", "") if started_as else text).partition("\n")[2].strip()
    about = (
        "In a checkout the command is `.venv/bin/bedside`. Commands work on the data folder that the settings name, so "
        "run them where the gateway runs, as the same user. `--debug` anywhere shows where an error came from."
    )
    return _page("Command line", about, body)


def rest_calls() -> Sequence[Call]:
    """The REST table of a gateway built as ``serve`` builds it, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        settings = resolve([("reference", {"BEDSIDE_DATA": folder, "BEDSIDE_MODELS_DIR": folder, "OLLAMA_URL": ""})])
        server, vault = build(settings)
        try:
            return Rest(server.gateway, RunningSite(settings, server.pool, built_in(), server.turnstile)).calls()
        finally:
            vault.close()


def rest_page() -> str:
    calls = rest_calls()
    document = describe(calls)
    about = (
        'Bodies and answers are JSON. A good answer is `{"success": true, "data": ...}`, a bad one '
        '`{"success": false, "error": {"code", "message", "requestId"}}`; the tables show what is in `data`. '
        "Fields that are not in a body's table are refused by name. `GET /api/openapi.json` has the same as OpenAPI "
        "3.1, without the envelope. Every answer carries `X-Request-Id`."
    )
    return _page("REST calls", about, *(_call(call, document) for call in calls), _shared(document))


def _call(call: Call, document: Document) -> str:
    operation = document["paths"][_public_path(call)][call.method.lower()]
    parts = [f"## {call.method} {_public_path(call)}", f"{call.summary} Who may: {_who(call.action)}."]
    headers = [each for each in operation["parameters"] if each["in"] == "header"]
    parts += [f"Header `{each['name']}` (optional): {each['description']}" for each in headers]
    if call.body:
        parts += ["Body:", _fields(call.body.__name__, document)]
    data = operation["responses"]["200"]["content"]["application/json"]["schema"].get("properties", {}).get("data")
    if data:
        parts.append(f"Data: {_type(data)}")
    if call.events:
        names = ", ".join(f"`{name}` ({_anchor(model.__name__)})" for name, model in call.events.items())
        parts.append(f'Events with `"stream": true`: {names}; one `done` or one `error` is the last.')
    codes = ", ".join(f"{status} {' '.join(f'`{code}`' for code in found)}" for status, found in _by_status(call))
    parts.append(f"Errors: {codes}.")
    return "\n\n".join(parts)


def _shared(document: Document) -> str:
    """The answers, each once: several calls give the same."""
    schemas: Document = document["components"]["schemas"]
    names = [name for name in sorted(schemas) if not name.endswith("Body")]
    return "## Forms\n\n" + "\n\n".join(f"### {name}\n\n{_fields(name, document)}" for name in names)


def _fields(name: str, document: Document) -> str:
    schema: Document = document["components"]["schemas"][name]
    needed = schema.get("required", ())
    rows = [
        (f"`{field}`", _type(about), "yes" if field in needed else "", _shown(about.get("description", "")))
        for field, about in schema["properties"].items()
    ]
    return _table(("Field", "Type", "Always", "Meaning"), rows)


def _type(schema: Document) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return _anchor(str(schema["$ref"]).rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" + _bounds(schema)
    return str(schema.get("type", "anything")) + _bounds(schema)


_BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "over",
    "maximum": "to",
    "minLength": "from",
    "maxLength": "to",
    "maxItems": "at most",
}


def _bounds(schema: Document) -> str:
    found = [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
    unit = " characters" if "maxLength" in schema or "minLength" in schema else ""
    return f" ({' '.join(found)}{unit})" if found else ""


def _anchor(name: str) -> str:
    return f"[{name}](#{name.lower()})" if not name.endswith("Body") else "object: " + _inline(name)


def _inline(name: str) -> str:
    """The one form inside a body, field by field in one cell."""
    from bedside.api import schemas

    found: Document = getattr(schemas, name).model_json_schema()
    return ", ".join(f"`{field}` {_type(about)}" for field, about in found["properties"].items())


def _public_path(call: Call) -> str:
    return call.path.replace(":path}", "}")


def _by_status(call: Call) -> list[tuple[int, list[str]]]:
    found: dict[int, list[str]] = {}
    for code in errors_of(call):
        found.setdefault(STATUS[ERRORS[code].kind], []).append(code)
    return sorted(found.items())


def _who(action: str | None) -> str:
    if action is None or action in ANYONE:
        return "anyone"
    roles = [role.value for role in (Role.STAFF, Role.PROVIDER, Role.ADMIN) if action in ROLES[role]]
    return ", ".join(roles + (["command line"] if action in OPERATOR else []))


def _field_docs(record: type) -> dict[str, str]:
    """The string under each field of a dataclass; Python itself throws these away."""
    (class_,) = ast.parse(inspect.getsource(record)).body
    found: dict[str, str] = {}
    body = class_.body if isinstance(class_, ast.ClassDef) else []
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = str(ast.literal_eval(text.value)).replace("``", "`")
    return found


def _sentence(thing: type) -> str:
    return " ".join((thing.__doc__ or "").split())


def _list(cells: Sequence[tuple[str]]) -> str:
    return ", ".join(cell for (cell,) in cells)


def _yes(true: bool) -> str:
    return "yes" if true else ""


def _shown(text: str) -> str:
    """A sentence with its facts as ``<name>``, safe in a table's cell."""
    return re.sub(r"{(\w+)}", r"`<\1>`", text)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", MADE, *parts]) + "\n"


if __name__ == "__main__":
    main()
