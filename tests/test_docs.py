"""What is written agrees with what runs: reference pages, the example settings, links, commands, error codes."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
from tools import reference

from bedside import __version__
from bedside.cli.main import app
from bedside.clinical.registry import TASKS
from bedside.core.errors import ERRORS
from bedside.core.settings import SETTINGS
from bedside.operations.configuration import ENV_FILE, load_settings

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "bedside"
PAGES = ("settings.md", "actions.md", "roles.md", "events.md", "errors.md", "cli.md", "rest.md")
NOT_OURS = {".git", ".venv", ".hypothesis", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
LISTING_CODES = {SRC / "core" / "errors.py", SRC / "api" / "rest.py", SRC / "api" / "openapi.py"}
"""Files that name codes without raising them."""


def _markdown() -> list[Path]:
    found = (path for path in ROOT.rglob("*.md") if not NOT_OURS & set(path.relative_to(ROOT).parts))
    return sorted(path for path in found if "data" not in path.relative_to(ROOT).parts[:1])


MARKDOWN = [str(path.relative_to(ROOT)) for path in _markdown()]


@cache
def _made() -> Mapping[str, str]:
    return reference.pages()


@pytest.mark.parametrize("page", PAGES)
def test_a_reference_page_says_what_the_code_says(page: str) -> None:
    """Generated pages are never edited by hand and never left behind."""
    assert set(_made()) == set(PAGES)
    assert (reference.FOLDER / page).read_text(encoding="utf-8") == _made()[page], "run: make docs"


def test_the_example_settings_file_names_every_setting_and_loads_with_the_defaults(tmp_path: Path) -> None:
    example = reference.EXAMPLE.read_text(encoding="utf-8")
    assert example == reference.example_env(), "run: make docs"
    (tmp_path / ENV_FILE).write_text(example, encoding="utf-8")
    loaded, default = load_settings(tmp_path, {}), load_settings(tmp_path / "nowhere", {})
    assert {name for name, found in loaded.resolved.items() if found.source == ENV_FILE} == set(SETTINGS)
    assert {n: r.value for n, r in loaded.resolved.items()} == {n: r.value for n, r in default.resolved.items()}


def test_every_task_folder_has_the_same_furniture_and_is_registered() -> None:
    folders = {path.parent for path in (SRC / "clinical").glob("*/task.py")}
    registered = {SRC.joinpath(*type(task).__module__.split(".")[1:-1]) for task in TASKS.values()}
    assert registered == folders
    missing = [
        f"{folder.name}/{name}"
        for folder in folders
        for name in ("prompt.md", "README.md")
        if not (folder / name).is_file()
    ]
    missing += [f"{folder.name}/cases/*" for folder in folders if not any((folder / "cases").glob("*"))]
    assert missing == []


def _raised() -> Iterator[tuple[str, str]]:
    """(code, file) for every code that a module names, but for the tables that only list them."""
    for path in sorted(SRC.rglob("*.py")):
        if path not in LISTING_CODES:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in ERRORS:
                    yield node.value, path.name


def test_every_error_code_is_raised_somewhere() -> None:
    assert sorted(set(ERRORS) - {code for code, _ in _raised()}) == []


def test_every_error_code_is_named_by_a_test() -> None:
    """An error nobody has provoked may have a sentence nobody can read."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    named = {word for text in texts for word in re.findall(r"\b[A-Z][A-Z0-9_]+\b", text)}
    assert sorted(set(ERRORS) - named) == []


def _slug(heading: str) -> str:
    """The anchor of a heading as code hosts make it."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def _anchors(text: str) -> set[str]:
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return {_slug(heading) for heading in re.findall(r"^#+ (.*)$", plain, flags=re.MULTILINE)}


@pytest.mark.parametrize("page", MARKDOWN)
def test_every_relative_link_leads_somewhere(page: str) -> None:
    text, broken = (ROOT / page).read_text(encoding="utf-8"), []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        if not target.exists() or (anchor and anchor not in _anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


def _shell_lines(text: str) -> list[str]:
    """The command lines in a page's shell blocks; lines that end with a backslash are joined."""
    blocks = re.findall(r"^```(?:sh|console|bash)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def _commands(line: str) -> Iterator[Sequence[str]]:
    """The words behind each ``bedside`` in a line, up to a pipe or the like."""
    for found in re.finditer(r"(?:^|[\s(/])bedside ((?:[^|>;&)#\n])*)", re.sub(r'"\$\([^)]*\)"', "OUTPUT", line)):
        yield shlex.split(found[1])


@pytest.mark.parametrize("page", [page for page in MARKDOWN if page != "docs/reference/cli.md"])
def test_a_page_shows_only_commands_targets_and_calls_that_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = _shell_lines(text)
    for line in lines:
        for words in _commands(line):
            if words and words[0] not in ("--help", "--version"):
                app.parse_args(list(words), exit_on_error=False, print_error=False)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    shown = {word for line in lines for word in re.findall(r"\bmake ([a-z]+)\b", line)}
    assert shown <= targets
    paths = [re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)) for path in _rest_paths()]
    calls = {call.rstrip("./") for line in lines for call in re.findall(r"(/api/[\w./:-]+)", line)}
    foreign = {call for call in calls if call.startswith(("/api/tags", "/api/version"))}  # Ollama's own
    assert [call for call in calls - foreign if not any(re.fullmatch(path, call) for path in paths)] == []


@cache
def _rest_paths() -> frozenset[str]:
    return frozenset(re.findall(r"^## [A-Z]+ (/\S+)$", _made()["rest.md"], flags=re.MULTILINE))


def test_the_changelog_tells_of_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


FORBIDDEN = {
    "a registry's host name": r"py" + r"pi\.org|python" + r"hosted\.org",
    "a path of one machine": r"(?<![\w.])/(?:wo" + r"rk|ro" + r"ot)/\w",
    "a claim nobody can make for a site": r"(?i)hipaa[- ]" + r"compliant|compliant with hi" + r"paa",
}


def _texts() -> Iterator[tuple[str, str]]:
    """Every text file that is, or is about to be, part of the project."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        try:
            yield name, (ROOT / name).read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            continue  # being deleted, or no text


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    assert [f"{name}: {found[0]}" for name, text in _texts() if (found := pattern.search(text))] == []
