"""Nothing leaves, and nothing that was said can be found in what the program wrote."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.journeys.started import bedside, environment, node_beside, signed_in, started
from tests.ollama_like import Model

PROMPT, ANSWER, IMAGE = "ZEBRAFISH-4711", "QUOKKA-0815", "iVBORw0KGgo-AXOLOTL"


def written(folder: Path) -> bytes:
    """Every byte below the folder that the program could write to."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.anyio
async def test_no_prompt_and_no_answer_is_in_anything_the_program_wrote(tmp_path: Path) -> None:
    """Good work, refused work, broken work: logs, audit, database, temporary files, standard error."""
    with node_beside(answer=lambda _: f"{ANSWER} and more", models=(Model("mistral:7b"),)) as node:
        with started(tmp_path, OLLAMA_URL=node.url, BEDSIDE_FAKE="true", BEDSIDE_MODEL="fake:text") as gateway:
            async with signed_in(gateway) as http:
                model = "mistral:7b"
                bodies: list[dict[str, object]] = [
                    {"modelName": model, "prompt": PROMPT},
                    {"modelName": model, "prompt": PROMPT, "stream": True},
                    {"modelName": "fake:text", "prompt": PROMPT},
                    {"modelName": PROMPT, "prompt": PROMPT},
                    {"modelName": model, "prompt": PROMPT, PROMPT: 1},
                    {"modelName": model, "prompt": PROMPT, "options": {"temperature": PROMPT}},
                    {"modelName": model, "prompt": PROMPT, "task": PROMPT},
                    {"modelName": model, "prompt": PROMPT, "type": "vision", "imageData": IMAGE},
                    {"modelName": "fake:text", "prompt": PROMPT * 9000 + " w" * 9000},
                ]
                seen = []
                for body in bodies:
                    async with http.post("/api/local/process", json=body) as answer:
                        seen.append(await answer.text())
                async with http.post(f"/api/{PROMPT}?q={PROMPT}", data=PROMPT, headers={"X-Note": PROMPT}) as answer:
                    await answer.text()
                async with http.post("/api/local/process", data=f'{{"prompt": "{PROMPT}"') as answer:
                    await answer.text()
            assert ANSWER in seen[0]
            assert PROMPT in seen[2]
            assert gateway.stop() == 0
    everything = written(tmp_path)
    assert b"mistral:7b" in everything, "the search would find what is there"
    for marker in (PROMPT, ANSWER, IMAGE):
        assert marker.encode() not in everything


@pytest.mark.anyio
@pytest.mark.model
async def test_the_real_engine_writes_no_prompt_either(tmp_path: Path) -> None:
    from tests.starter import starter

    starter("smollm2:135m")
    with started(tmp_path, BEDSIDE_MODEL="smollm2:135m", BEDSIDE_CONTEXT="2048") as gateway:
        async with signed_in(gateway) as http:
            text = f"{PROMPT} has chest pain."
            async with http.post("/api/tasks/soap-note", json={"text": text}) as answer:
                said = (await answer.json())["data"]["response"]
        assert gateway.stop() == 0
    everything = written(tmp_path)
    assert PROMPT.encode() not in everything
    assert all(sentence.encode() not in everything for sentence in said.split("\n") if len(sentence) > 20)


@pytest.mark.anyio
async def test_each_request_is_one_line_of_the_log_with_its_time_and_no_words(tmp_path: Path) -> None:
    with started(tmp_path, BEDSIDE_FAKE="true") as gateway:
        async with signed_in(gateway) as http:
            async with http.post("/api/local/process", json={"modelName": "fake:text", "prompt": "a"}) as answer:
                request_id = answer.headers["X-Request-Id"]
        gateway.stop()
    (line,) = [line for line in gateway.lines() if line.get("requestId") == request_id]
    assert {"event", "method", "route", "status", "response_time", "requestId", "level", "timestamp"} <= set(line)
    assert (line["route"], line["status"]) == ("/api/local/process", 200)
    assert line["response_time"] >= 0


@pytest.mark.anyio
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
async def test_a_log_that_cant_be_written_does_not_stop_the_work(tmp_path: Path) -> None:
    """The program's log is a convenience; only the audit log is a condition."""
    with started(tmp_path, log=Path("/dev/full"), BEDSIDE_FAKE="true") as gateway:
        async with signed_in(gateway) as http:
            async with http.post("/api/local/process", json={"modelName": "fake:text", "prompt": "a"}) as answer:
                assert answer.status == 200
        assert gateway.stop() == 0


def namespaces_work() -> bool:
    tools = sys.platform == "linux" and shutil.which("unshare") and shutil.which("ip")
    return bool(tools) and subprocess.run(["unshare", "-rn", "ip", "link"], capture_output=True).returncode == 0


@pytest.mark.model
@pytest.mark.skipif(
    not namespaces_work(), reason="needs Linux with unshare, ip and user namespaces to count what leaves"
)
def test_not_one_packet_leaves_while_a_note_is_drafted(tmp_path: Path) -> None:
    """In a network of its own, every route that is not loopback leads to a cable with nobody at its end. A packet sent
    on purpose at the end proves that it counts."""
    from tests.starter import starter

    starter("smollm2:135m")
    inside = textwrap.dedent(
        """
        import socket, subprocess, sys
        from pathlib import Path

        def run(*command):
            subprocess.run(command, check=True)

        def sent():
            return int(Path("/sys/class/net/away/statistics/tx_packets").read_text())

        for family in ("all", "default"):
            Path(f"/proc/sys/net/ipv6/conf/{family}/disable_ipv6").write_text("1")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "away", "type", "veth", "peer", "name", "beyond")
        run("ip", "link", "set", "beyond", "up")
        run("ip", "addr", "add", "192.0.2.2/24", "dev", "away")
        run("ip", "link", "set", "away", "up", "arp", "off")
        run("ip", "route", "add", "default", "dev", "away")
        before = sent()
        done = subprocess.run([sys.executable, "-m", "bedside", "demo"], capture_output=True, text=True)
        print(done.stdout, done.stderr, "code", done.returncode)
        print("left:", sent() - before)
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("198.51.100.1", 9))
        print("counted:", sent() - before)
        """
    )
    env = environment(tmp_path, BEDSIDE_MODEL="smollm2:135m", OLLAMA_URL="http://127.0.0.1:11434")
    mounted = ["unshare", "-rn", "--mount", "sh", "-c", 'mount -t sysfs none /sys && exec "$0" -c "$1"']
    done = subprocess.run([*mounted, sys.executable, inside], env=env, capture_output=True, text=True, cwd=tmp_path)
    assert "The audit log is whole" in done.stdout, done.stdout + done.stderr
    assert "left: 0" in done.stdout
    assert "counted: 1" in done.stdout


def test_a_node_outside_is_refused_at_start_with_the_setting_that_would_allow_it(tmp_path: Path) -> None:
    env = environment(tmp_path, OLLAMA_URL="http://198.51.100.7:11434")
    done = bedside(env, "serve")
    assert done.returncode == 2
    assert "NODE_OUTSIDE" in done.stderr
    assert "BEDSIDE_INSIDE_NETWORKS" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_node_in_a_named_network_is_let_in(tmp_path: Path) -> None:
    words = {"OLLAMA_URL": "http://198.51.100.7:11434", "BEDSIDE_INSIDE_NETWORKS": "198.51.100.0/24"}
    env = environment(tmp_path, **words)
    shown = json.loads(bedside(env, "settings", "--json").stdout)
    assert {row["name"]: row["value"] for row in shown}["BEDSIDE_INSIDE_NETWORKS"] == "198.51.100.0/24"
    from bedside.operations.configuration import load_settings
    from bedside.server import nodes

    assert [node.name for node in nodes(load_settings(tmp_path, env))] == ["embedded", "ollama"]


def test_files_of_the_data_folder_are_their_owners_alone(tmp_path: Path) -> None:
    with started(tmp_path) as gateway:
        gateway.stop()
    modes = {path.name: oct(os.stat(path).st_mode & 0o077) for path in (tmp_path / "data").rglob("*")}
    assert set(modes.values()) == {"0o0"}, modes
