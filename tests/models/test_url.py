"""Pulling from an address: a real server on loopback that breaks in the ways servers break."""

from pathlib import Path

import pytest
from tests.models import tiny, web
from tests.models.tiny import EVERYWHERE
from tests.models.web import Site

from bedside.core.errors import BedsideError
from bedside.models.catalogue import Entry
from bedside.models.pull import pull
from bedside.models.sources import UrlSpec, key_of
from bedside.models.store import ModelStore

MODEL = tiny.big_gguf(b"url")
HALF = len(MODEL) // 2


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def entry(site: Site) -> Entry:
    site.content = MODEL
    return tiny.entry(MODEL, UrlSpec(site.url))


def got(entry: Entry, store: ModelStore, waits: list[float] | None = None) -> bytes:
    pause = (waits if waits is not None else []).append
    return pull(entry, store, EVERYWHERE, pause=pause).path.read_bytes()


def refused(entry: Entry, store: ModelStore, waits: list[float] | None = None) -> BedsideError:
    with pytest.raises(BedsideError) as caught:
        got(entry, store, waits)
    return caught.value


def arrived(entry: Entry, store: ModelStore, content: bytes) -> Path:
    """As an earlier run would have left it, without what it knew of the server's version."""
    (source,) = entry.sources
    return tiny.write(store.partial(tiny.sha256(MODEL)) / key_of(source) / "file", content)


def test_a_whole_answer_is_the_model(entry: Entry, store: ModelStore, site: Site) -> None:
    assert got(entry, store) == MODEL
    assert site.ranges == [(None, None)]


def test_a_torn_download_resumes_where_it_stopped(
    entry: Entry, store: ModelStore, site: Site, waits: list[float]
) -> None:
    site.script = [web.torn(HALF)]
    assert got(entry, store, waits) == MODEL
    assert site.ranges == [(None, None), (f"bytes={HALF}-", '"v1"')]
    assert waits == [1.0]


def test_a_later_run_resumes_what_an_earlier_one_left(entry: Entry, store: ModelStore, site: Site) -> None:
    site.script = [web.torn(HALF), *[web.status(503)] * 4]
    assert refused(entry, store).code == "DOWNLOAD_FAILED"
    site.ranges.clear()
    assert got(entry, store) == MODEL
    assert site.ranges == [(f"bytes={HALF}-", '"v1"')]


@pytest.mark.parametrize("answer", [web.ignoring_ranges, web.another_part, web.status(416)])
def test_a_server_that_will_not_go_on_is_started_over(
    entry: Entry, store: ModelStore, site: Site, answer: web.Answer
) -> None:
    arrived(entry, store, b"x" * HALF)
    site.script = [answer]
    assert got(entry, store) == MODEL
    assert site.ranges[0] == (f"bytes={HALF}-", None)


def test_a_file_that_changed_meanwhile_is_fetched_from_the_beginning(
    entry: Entry, store: ModelStore, site: Site
) -> None:
    site.script = [web.torn(HALF), *[web.status(503)] * 4]
    site.content = b"y" * len(MODEL)
    refused(entry, store)
    site.content, site.etag = MODEL, '"v2"'
    assert got(entry, store) == MODEL


def test_a_weak_etag_is_not_trusted_to_resume(entry: Entry, store: ModelStore, site: Site) -> None:
    site.etag, site.script = 'W/"v1"', [web.torn(HALF)]
    assert got(entry, store) == MODEL
    assert site.ranges[1] == (f"bytes={HALF}-", None)


def test_waits_grow_and_end_with_a_reason(entry: Entry, store: ModelStore, site: Site, waits: list[float]) -> None:
    site.script = [web.status(503)] * 9
    error = refused(entry, store, waits)
    assert error.code == "DOWNLOAD_FAILED"
    assert "the server answers 503" in error.cause
    assert waits == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("answer", [web.torn(0), web.garbage, web.status(500)])
def test_a_server_that_stumbles_once_is_asked_again(
    entry: Entry, store: ModelStore, site: Site, answer: web.Answer
) -> None:
    site.script = [answer]
    assert got(entry, store) == MODEL


def test_a_connection_that_always_breaks_but_brings_bytes_gets_there(
    entry: Entry, store: ModelStore, site: Site, waits: list[float]
) -> None:
    def next_piece(handler: web.Handler) -> None:
        start = int((handler.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        place = f"bytes {start}-{len(MODEL) - 1}/{len(MODEL)}"
        handler.begin(206, Content_Length=len(MODEL) - start, Content_Range=place)
        handler.wfile.write(MODEL[start : start + len(MODEL) // 8])

    site.script = [next_piece] * 8
    assert got(entry, store, waits) == MODEL
    assert waits == [1.0] * len(waits)
    assert len(waits) > 5


def test_a_refusal_is_not_asked_again(entry: Entry, store: ModelStore, site: Site, waits: list[float]) -> None:
    site.script = [web.status(404)]
    assert "answers 404" in refused(entry, store, waits).cause
    assert waits == []
    assert len(site.paths) == 1


def test_a_host_that_is_not_there_is_a_failed_download(store: ModelStore, waits: list[float]) -> None:
    error = refused(tiny.entry(MODEL, UrlSpec("http://user:hunter2@127.0.0.1:9/x.gguf")), store, waits)
    assert error.code == "DOWNLOAD_FAILED"
    assert "hunter2" not in str(error)


def test_another_length_is_refused_before_anything_is_fetched(entry: Entry, store: ModelStore, site: Site) -> None:
    site.content = MODEL + b"x"
    error = refused(entry, store)
    assert error.code == "DOWNLOAD_WRONG"
    assert f"{len(MODEL) + 1} bytes" in error.cause


def test_other_bytes_of_the_right_length_are_thrown_away(entry: Entry, store: ModelStore, site: Site) -> None:
    site.content = MODEL[:-1] + b"x"
    error = refused(entry, store)
    assert error.code == "DOWNLOAD_WRONG"
    assert "sha256" in error.cause
    assert tiny.tree(store.root) == []


def test_a_server_that_never_ends_is_cut_off(entry: Entry, store: ModelStore, site: Site) -> None:
    site.script = [web.endless]
    assert refused(entry, store).code == "DOWNLOAD_WRONG"


def test_a_redirect_to_another_address_is_followed(entry: Entry, store: ModelStore, site: Site) -> None:
    site.script = [web.status(302, Location="/elsewhere.gguf")]
    assert got(entry, store) == MODEL
    assert site.paths == ["/model.gguf", "/elsewhere.gguf"]


def test_a_redirect_to_a_file_of_this_machine_is_refused(
    entry: Entry, store: ModelStore, site: Site, tmp_path: Path
) -> None:
    bait = tiny.write(tmp_path / "bait.gguf", MODEL)
    site.script = [web.status(302, Location=f"file://{bait}")]
    error = refused(entry, store)
    assert error.code == "DOWNLOAD_FAILED"
    assert "redirects to an address that is refused" in error.cause


def test_the_proxy_of_the_environment_is_used(store: ModelStore, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.content = MODEL
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{site.port}")
    assert got(tiny.entry(MODEL, UrlSpec("http://models.invalid/m.gguf")), store) == MODEL
    assert site.paths == ["http://models.invalid/m.gguf"]
