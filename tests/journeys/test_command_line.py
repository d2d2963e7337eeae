"""Commands as an operator types them: what they print, their exit codes, and what they say when they can't."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.journeys.started import bedside, environment, started


def test_help_shows_examples_for_every_command(tmp_path: Path) -> None:
    env = environment(tmp_path)
    for command in ("", "serve", "demo", "settings", "audit verify", "models pull", "users add", "keys new"):
        shown = bedside(env, *command.split(), "--help")
        assert shown.returncode == 0
        assert "Example" in shown.stdout, command
        assert "\x1b[" not in shown.stdout, "no colours without a terminal"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "frobnicate"),
        (["users", "add", "dr.lee", "--role", "nurse"], "provider"),
        (["users", "add", "dr.lee"], "--role"),
        (["audit", "verify", "--expect", "12"], "NUMBER:HASH"),
        (["models", "pull"], "NAME"),
    ],
)
def test_a_wrong_command_gets_one_line_of_cause_and_one_of_cure(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = bedside(environment(tmp_path), *arguments)
    assert done.returncode == 2
    assert "COMMAND_WRONG" in done.stderr
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2
    assert "Traceback" not in done.stderr


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    assert "Traceback" in bedside(environment(tmp_path), "users", "disable", "nobody", "--debug").stderr


def test_users_are_added_listed_switched_and_given_new_passwords(tmp_path: Path) -> None:
    env = environment(tmp_path)
    assert "One-time password of dr.lee" in bedside(env, "users", "add", "dr.lee", "--role", "admin").stdout
    again = bedside(env, "users", "add", "dr.lee", "--role", "staff")
    assert (again.returncode, "USER_EXISTS" in again.stderr) == (1, True)
    assert "USER_NAME_INVALID" in bedside(env, "users", "add", "Dr Lee!", "--role", "staff").stderr
    assert "USER_UNKNOWN" in bedside(env, "users", "reset-password", "nobody").stderr
    assert "LAST_ADMIN" in bedside(env, "users", "disable", "dr.lee").stderr
    assert bedside(env, "users", "add", "a.admin", "--role", "admin").returncode == 0
    assert [bedside(env, "users", "disable", "dr.lee").returncode for _ in range(2)] == [0, 0]
    states = {u["username"]: u["state"] for u in json.loads(bedside(env, "users", "list", "--json").stdout)}
    assert states == {"dr.lee": "off", "a.admin": "one-time password"}
    assert bedside(env, "users", "enable", "dr.lee").returncode == 0
    assert "oneTimePassword" in json.loads(bedside(env, "users", "reset-password", "dr.lee", "--json").stdout)
    assert "dr.lee" in bedside(env, "users", "list").stdout
    verdict = json.loads(bedside(env, "audit", "verify", "--json").stdout)
    assert (verdict["whole"], verdict["openIntents"]) == (True, [])


def test_the_first_start_makes_an_admin_and_shows_the_password_once(tmp_path: Path) -> None:
    with started(tmp_path) as gateway:
        assert gateway.admin_password
        assert gateway.admin_password not in (tmp_path / "gateway.log").read_text()
    with started(tmp_path) as gateway:
        assert gateway.admin_password is None


def test_a_tampered_copy_of_the_log_is_named_and_the_exit_code_says_so(tmp_path: Path) -> None:
    env = environment(tmp_path)
    for name in ("one", "two", "three"):
        bedside(env, "users", "add", f"user.{name}", "--role", "staff")
    log = tmp_path / "data" / "audit" / "log.jsonl"
    assert bedside(env, "audit", "verify").returncode == 0
    checkpoint = bedside(env, "audit", "checkpoint").stdout.strip()
    assert bedside(env, "audit", "verify", "--expect", checkpoint).returncode == 0
    lines = log.read_bytes().splitlines(keepends=True)
    harms = {
        "edited": [lines[0], lines[1].replace(b"user.one", b"user.two"), *lines[2:]],
        "removed": [lines[0], *lines[2:]],
        "moved": [lines[1], lines[0], *lines[2:]],
        "missing at the end": lines[:-1],
    }
    for words, harmed in harms.items():
        copy = tmp_path / "copy.jsonl"
        copy.write_bytes(b"".join(harmed))
        done = bedside(env, "audit", "verify", "--file", str(copy))
        assert done.returncode == 1
        assert "NOT whole" in done.stdout
        assert words in done.stdout, done.stdout
    gone = bedside(env, "audit", "verify", "--file", str(tmp_path / "nothing.jsonl"))
    assert (gone.returncode, "FILE_UNREADABLE" in gone.stderr) == (2, True)


def test_settings_say_what_is_in_force_and_where_it_came_from(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# ours\nexport OLLAMA_NUM_PARALLEL=2\nBEDSIDE_MODEL='smollm2:135m'  \n")
    (tmp_path / "bedside.toml").write_text('OLLAMA_NUM_PARALLEL = 8\nBEDSIDE_INSIDE_NETWORKS = ["10.1.0.0/16"]\n')
    env = environment(tmp_path, OLLAMA_URL="http://clerk:secret@127.0.0.1:11434")
    shown = bedside(env, "settings", "--json")
    rows = {row["name"]: (row["value"], row["source"]) for row in json.loads(shown.stdout)}
    assert rows["OLLAMA_NUM_PARALLEL"] == ("2", ".env")
    assert rows["BEDSIDE_MODEL"] == ("smollm2:135m", ".env")
    assert rows["BEDSIDE_INSIDE_NETWORKS"] == ("10.1.0.0/16", "bedside.toml")
    assert rows["BEDSIDE_DATA"][1] == "environment"
    assert rows["HIPAA_MODE"] == ("true", "default")
    assert rows["OLLAMA_URL"][0] == "http://***@127.0.0.1:11434"
    assert "secret" not in bedside(env, "settings").stdout


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        (".env", "HIPAA_MODE=perhaps", "SETTING_INVALID", "HIPAA_MODE"),
        (".env", "just words", "SETTINGS_FILE", "line 1"),
        (".env", "BEDSIDE_PROT=3002", "SETTING_INVALID", "BEDSIDE_PORT"),
        (".env", "OLLAMA_URL=http://a..b", "SETTING_INVALID", "OLLAMA_URL"),
        (".env", "BEDSIDE_PORT=99999", "SETTING_INVALID", "65535"),
        (".env", "OLLAMA_URL=ftp://host", "SETTING_INVALID", "OLLAMA_URL"),
        (".env", "BEDSIDE_INSIDE_NETWORKS=ten", "SETTING_INVALID", "10.1.0.0/16"),
        ("bedside.toml", "HIPPA_MODE = true", "SETTINGS_FILE", "HIPPA_MODE"),
        ("bedside.toml", "= nonsense", "SETTINGS_FILE", "bedside.toml"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, name: str, content: str, code: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    env = {k: v for k, v in environment(tmp_path).items() if k not in ("BEDSIDE_PORT", "OLLAMA_URL")}
    done = bedside(env, "settings")
    assert done.returncode == 2
    assert code in done.stderr
    assert words in done.stderr


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = bedside(environment(tmp_path, BEDSIDE_PORT=str(port)), "serve")
    assert (done.returncode, "PORT_IN_USE" in done.stderr) == (2, True)
    assert str(port) in done.stderr


def test_a_data_folder_that_cant_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = bedside(environment(tmp_path, BEDSIDE_DATA=str(tmp_path / "file" / "data")), "serve")
    assert (done.returncode, "DATA_FOLDER" in done.stderr) == (2, True)


def harm(folder: Path, how: str) -> None:
    data = folder / "data"
    if how == "garbage database":
        for extra in data.glob("bedside.db-*"):
            extra.unlink()
        (data / "bedside.db").write_bytes(b"not a database at all" * 500)
    elif how == "newer database":
        import sqlite3

        with sqlite3.connect(data / "bedside.db") as db:
            db.execute("UPDATE alembic_version SET version_num = '9999'")
    elif how == "another program's database":
        import sqlite3

        with sqlite3.connect(data / "bedside.db") as db:
            db.execute("DROP TABLE alembic_version")
    elif how == "log gone":
        shutil.rmtree(data / "audit")
    elif how == "log emptied":
        for name in ("log.jsonl", "head"):
            (data / "audit" / name).write_bytes(b"")
    elif how == "head gone":
        (data / "audit" / "head").unlink()
    elif how == "database gone":
        (data / "bedside.db").unlink()
    elif how == "key gone":
        (data / "keys" / "token.key").unlink()
    elif how == "key damaged":
        (data / "keys" / "audit.key").write_text("nonsense")
    elif how == "key open to others":
        (data / "keys" / "token.key").chmod(0o644)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("garbage database", "STORE_CORRUPT"),
        ("another program's database", "STORE_CORRUPT"),
        ("newer database", "STORE_TOO_NEW"),
        ("log gone", "AUDIT_BROKEN"),
        ("log emptied", "AUDIT_BROKEN"),
        ("head gone", "AUDIT_BROKEN"),
        ("database gone", "STORE_MISSING"),
        ("key gone", "KEY_MISSING"),
        ("key damaged", "KEY_UNSAFE"),
        ("key open to others", "KEY_UNSAFE"),
    ],
)
def test_a_harmed_data_folder_is_refused_and_left_as_it_is(tmp_path: Path, how: str, code: str) -> None:
    env = environment(tmp_path)
    assert bedside(env, "users", "add", "dr.lee", "--role", "admin").returncode == 0
    harm(tmp_path, how)
    done = bedside(env, "serve")
    assert (done.returncode, code in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_gateway_on_the_same_data_is_refused(tmp_path: Path) -> None:
    """Its queue, its limits and its memory of failed sign-ins would all count double."""
    with started(tmp_path) as gateway:
        done = bedside(gateway.env, "serve")
        assert (done.returncode, "DATA_IN_USE" in done.stderr) == (2, True)
        assert bedside(gateway.env, "users", "add", "dr.lee", "--role", "staff").returncode == 0


def test_a_lost_audit_key_can_be_made_anew_and_the_old_log_stays_trusted(tmp_path: Path) -> None:
    env = environment(tmp_path)
    bedside(env, "users", "add", "dr.lee", "--role", "admin")
    (tmp_path / "data" / "keys" / "audit.key").unlink()
    assert "KEY_MISSING" in bedside(env, "serve").stderr
    assert bedside(env, "keys", "new", "audit", "--yes").returncode == 0
    assert bedside(env, "users", "add", "a.lee", "--role", "staff").returncode == 0
    assert bedside(env, "keys", "new", "audit", "--yes").returncode == 0
    assert bedside(env, "audit", "verify").returncode == 0
    stranger = "A" * 43 + "="
    assert bedside(env, "audit", "verify", "--key", stranger).returncode == 1


def test_a_lost_key_can_be_made_anew_after_saying_what_it_costs(tmp_path: Path) -> None:
    env = environment(tmp_path)
    bedside(env, "users", "add", "dr.lee", "--role", "admin")
    key = tmp_path / "data" / "keys" / "token.key"
    before = key.read_bytes()
    assert "Nothing was changed" in bedside(env, "keys", "new", "token", "--dry-run").stdout
    assert key.read_bytes() == before
    assert bedside(env, "keys", "new", "token", "--yes").returncode == 0
    assert key.read_bytes() != before
    assert (key.parent / "token.key.1").read_bytes() == before
    key.unlink()
    assert "sign in again" in bedside(env, "keys", "new", "token", "--yes").stdout
    assert bedside(env, "users", "list").returncode == 0


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bedside", "settings", "--json"]
    env = environment(tmp_path)
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_command_that_fails_unforeseen_shows_no_traceback(tmp_path: Path) -> None:
    """Nothing in it can be trusted to hold no patient's name, so only its kind is shown."""
    script = (
        "from bedside.cli.main import app, main\n"
        "@app.command\n"
        "def burst():\n"
        "    raise ValueError('MRN 4711')\n"
        "raise SystemExit(main(['burst']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(tmp_path))
    assert done.returncode == 1
    assert "COMMAND_FAILED" in done.stderr
    assert "ValueError" in done.stderr
    assert "4711" not in done.stderr
