"""``bedside models``, as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.models import tiny

from bedside.audit.events import AuditRecord, Kind, Outcome
from bedside.cli.models import app
from bedside.core.chain import read
from bedside.core.errors import BedsideError
from bedside.models.sizes import human
from bedside.models.store import ModelStore

MODEL = tiny.gguf_bytes()


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, store: ModelStore, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BEDSIDE_MODELS_DIR", str(store.root))
    monkeypatch.setenv("BEDSIDE_DATA", str(tmp_path / "data"))
    tiny.write(tmp_path / "m.gguf", MODEL)


def bedside(*words: str) -> None:
    app(list(words), result_action="return_value", exit_on_error=False)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    bedside(*words)
    return capsys.readouterr().out


def code(*words: str) -> str:
    with pytest.raises(BedsideError) as caught:
        bedside(*words)
    return caught.value.code


def test_a_model_is_added_listed_shown_and_removed(capsys: pytest.CaptureFixture[str], store: ModelStore) -> None:
    assert "Installed own:1b. sha256:" in said(capsys, "add", "own:1b", "m.gguf")
    line = next(line for line in said(capsys, "list").splitlines() if line.startswith("own:1b"))
    assert line.split()[3:6] == ["text", "Q4_0", "yes"]
    shown = said(capsys, "show", "own:1b")
    assert tiny.sha256(MODEL) in shown
    assert "contextLength    2048" in shown
    assert said(capsys, "remove", "own:1b", "--yes") == f"Removed own:1b ({human(len(MODEL))} freed).\n"
    assert store.installed() == []


def test_doing_it_twice_says_so_and_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    bedside("add", "own:1b", "m.gguf", "--link")
    assert "is installed already" in said(capsys, "add", "own:1b", "m.gguf")
    bedside("remove", "own:1b", "--yes")
    assert said(capsys, "remove", "own:1b") == "own:1b is not installed; nothing to remove.\n"


def test_every_command_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    added = json.loads(said(capsys, "add", "own:1b", "m.gguf", "--json"))
    assert (added["name"], added["installed"], added["changed"]) == ("own:1b", True, True)
    assert [row["name"] for row in json.loads(said(capsys, "list", "--json"))][:2] == ["own:1b", "qwen2.5-coder:0.5b"]
    assert json.loads(said(capsys, "show", "own:1b", "--json"))["tensors"] == 2
    assert json.loads(said(capsys, "show", "mistral:7b", "--json"))["install"].startswith("ollama pull")
    bedside("add", "own:also", "m.gguf")
    plan = json.loads(said(capsys, "remove", "own:1b", "--dry-run", "--json"))
    assert plan == {"name": "own:1b", "freed": 0, "stillUsedBy": ["own:also"], "dryRun": True, "changed": False}
    assert json.loads(said(capsys, "remove", "none:1b", "--json"))["changed"] is False


def test_a_dry_run_removes_nothing(capsys: pytest.CaptureFixture[str], store: ModelStore) -> None:
    bedside("add", "own:1b", "m.gguf")
    bedside("add", "own:also", "m.gguf")
    assert "the file stays for own:also" in said(capsys, "remove", "own:1b", "--dry-run")
    assert len(store.installed()) == 2


def test_nothing_is_removed_without_a_yes(store: ModelStore) -> None:
    bedside("add", "own:1b", "m.gguf")
    assert code("remove", "own:1b") == "COMMAND_WRONG"
    assert store.find("own:1b") is not None


def test_a_pull_shows_its_progress_in_plain_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: ModelStore
) -> None:
    monkeypatch.setenv("BEDSIDE_MODEL_FOLDERS", str(tmp_path))
    assert code("pull", "smollm2:135m") == "SOURCE_NOT_ALLOWED"
    bedside("add", "mistral:7b", "m.gguf")
    assert f"mistral:7b: {human(len(MODEL))} of {human(len(MODEL))} (100 %)" in capsys.readouterr().err
    assert "mistral:7b is installed already" in said(capsys, "pull", "mistral:7b")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("pull", "mistrall:7b"), "MODEL_UNKNOWN"),
        (("show", "nothing"), "MODEL_UNKNOWN"),
        (("pull", "llama2:7b", "--allow-download"), "SOURCE_NONE"),
        (("add", "own", "m.gguf"), "MODEL_NAME_INVALID"),
        (("add", "own:1b", "none.gguf"), "FILE_UNREADABLE"),
        (("add", "smollm2:135m", "m.gguf"), "MODEL_FILE_WRONG"),
    ],
)
def test_a_mistake_has_its_own_error(words: tuple[str, ...], expected: str) -> None:
    assert code(*words) == expected


def on_a_terminal(answer: bytes, *words: str) -> tuple[int, str]:
    """Runs the command with a real terminal as its standard input and error; gives its exit code and what it drew."""
    import pty

    controller, terminal = pty.openpty()
    command = [sys.executable, "-c", "from bedside.cli.models import app; app()", *words]
    child = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    os.write(controller, answer)
    drawn = b""
    try:
        while chunk := os.read(controller, 4096):
            drawn += chunk
    except OSError:
        pass  # Linux says EIO when the last holder of the terminal has closed it
    os.close(controller)
    return child.wait(), drawn.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_on_a_terminal_there_is_a_bar_with_the_time_left_and_a_question_before_removing(store: ModelStore) -> None:
    status, drawn = on_a_terminal(b"", "add", "own:1b", "m.gguf")
    assert status == 0
    assert "3.8/3.8 kB" in drawn
    assert "0:00:00" in drawn
    status, drawn = on_a_terminal(b"n\n", "remove", "own:1b")
    assert status != 0
    assert "Remove own:1b (3.8 kB)? [y/N]" in drawn
    assert store.find("own:1b") is not None
    status, drawn = on_a_terminal(b"y\n", "remove", "own:1b")
    assert status == 0
    assert store.find("own:1b") is None


def test_a_change_of_the_models_is_in_the_audit_log_and_a_look_is_not(tmp_path: Path) -> None:
    bedside("list")
    assert not (tmp_path / "data").exists()
    bedside("add", "own:1b", "m.gguf")
    bedside("remove", "own:1b", "--yes")
    with pytest.raises(BedsideError):
        bedside("pull", "smollm2:135m")
    lines = (tmp_path / "data" / "audit" / "log.jsonl").read_bytes().splitlines()
    records = [AuditRecord.from_fields(read(line).fields) for line in lines]
    assert [(r.subject, r.kind, r.outcome, r.reason) for r in records] == [
        ("own:1b", Kind.INTENT, None, None),
        ("own:1b", Kind.OUTCOME, Outcome.OK, None),
        ("own:1b", Kind.INTENT, None, None),
        ("own:1b", Kind.OUTCOME, Outcome.OK, None),
        ("smollm2:135m", Kind.INTENT, None, None),
        ("smollm2:135m", Kind.OUTCOME, Outcome.FAILED, "SOURCE_NOT_ALLOWED"),
    ]
    assert {r.action for r in records} == {"local:models:manage"}
