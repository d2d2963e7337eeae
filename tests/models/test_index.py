"""Pulling from a package index: real wheels, the real pip, no network."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.models import tiny
from tests.models.tiny import EVERYWHERE
from tests.models.web import Site

from bedside.core.errors import BedsideError
from bedside.models.catalogue import Entry
from bedside.models.pull import pull
from bedside.models.sources import IndexSpec, UrlSpec, key_of
from bedside.models.store import ModelStore

MODEL = tiny.big_gguf(b"index")
BLOB = f"blobs/sha256-{tiny.sha256(MODEL)}"


def refused(entry: Entry, store: ModelStore) -> BedsideError:
    with pytest.raises(BedsideError) as caught:
        pull(entry, store, EVERYWHERE, pause=lambda seconds: None)
    return caught.value


def part_folder(store: ModelStore, spec: IndexSpec) -> Path:
    return store.partial(tiny.sha256(MODEL)) / key_of(spec)


def test_a_model_in_parts_is_joined_in_order_and_nothing_is_left_over(store: ModelStore, shelf: Path) -> None:
    seen: list[tuple[int, int]] = []
    entry = tiny.entry(MODEL, tiny.parts(shelf, MODEL, 3))
    model = pull(entry, store, EVERYWHERE, lambda done, total: seen.append((done, total)))
    assert model.path.read_bytes() == MODEL
    assert (model.source, model.license) == ("index", "Apache-2.0")
    assert tiny.tree(store.root) == [BLOB, "manifests/tiny%3A1b.json"]
    assert seen == sorted(set(seen))
    assert seen[-1] == (len(MODEL), len(MODEL))


def test_a_model_that_is_a_named_member_of_a_wheel_is_found(store: ModelStore, shelf: Path) -> None:
    tiny.wheel(shelf, "llm-tiny", {"Tiny.Q4.gguf": MODEL, "other.gguf": b"another"})
    entry = tiny.entry(MODEL, IndexSpec(("llm-tiny==1.0",), "llm_tiny/Tiny.*.gguf"))
    assert pull(entry, store, EVERYWHERE).path.read_bytes() == MODEL


def test_an_installed_model_is_not_fetched_again(store: ModelStore, shelf: Path) -> None:
    entry = tiny.entry(MODEL, tiny.parts(shelf, MODEL))
    first = pull(entry, store, EVERYWHERE)
    for wheel in shelf.iterdir():
        wheel.unlink()
    assert pull(entry, store, EVERYWHERE) == first


def test_a_broken_run_goes_on_with_the_part_that_is_missing(store: ModelStore, shelf: Path) -> None:
    spec = tiny.parts(shelf, MODEL)
    first, second = sorted(shelf.iterdir())
    hidden = second.rename(shelf.parent / second.name)
    error = refused(tiny.entry(MODEL, spec), store)
    assert error.code == "DOWNLOAD_FAILED"
    assert "tiny-part2==1.0" in error.cause
    first.unlink()  # so that a second fetch of it would fail
    hidden.rename(second)
    assert pull(tiny.entry(MODEL, spec), store, EVERYWHERE).path.read_bytes() == MODEL


def test_a_whole_wheel_left_by_a_killed_run_is_used(store: ModelStore, shelf: Path) -> None:
    spec = tiny.parts(shelf, MODEL, 1)
    wheel = next(shelf.iterdir())
    wheels = part_folder(store, spec) / "wheels"
    wheels.mkdir(parents=True)
    wheel.rename(wheels / wheel.name)
    assert pull(tiny.entry(MODEL, spec), store, EVERYWHERE).path.read_bytes() == MODEL


def test_a_cut_wheel_left_by_a_killed_run_is_fetched_again(store: ModelStore, shelf: Path) -> None:
    spec = tiny.parts(shelf, MODEL, 1)
    wheel = next(shelf.iterdir())
    tiny.write(part_folder(store, spec) / "wheels" / wheel.name, wheel.read_bytes()[:1000])
    assert pull(tiny.entry(MODEL, spec), store, EVERYWHERE).path.read_bytes() == MODEL


@pytest.mark.parametrize("journal", [b"{", b'{"parts": 2, "size": 900000}', b'{"parts": "x", "size": 1}'])
def test_a_journal_that_does_not_fit_is_not_believed(store: ModelStore, shelf: Path, journal: bytes) -> None:
    spec = tiny.parts(shelf, MODEL)
    tiny.write(part_folder(store, spec) / "parts.json", journal)
    tiny.write(part_folder(store, spec) / "file", b"rubbish" * 1000)
    assert pull(tiny.entry(MODEL, spec), store, EVERYWHERE).path.read_bytes() == MODEL


def flipped(content: bytes) -> bytes:
    """One bit of the packed data changed, so that the zip's checksum is wrong."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def unknown_method(content: bytes) -> bytes:
    """Every member says it is packed by a method that no zip reader knows."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        places = [info.header_offset for info in archive.infolist()]
        central = content.index(b"PK\x01\x02")
    changed = bytearray(content)
    for place in places:
        changed[place + 8 : place + 10] = b"\x63\x00"
    while (central := changed.find(b"PK\x01\x02", central)) >= 0:
        changed[central + 10 : central + 12] = b"\x63\x00"
        central += 46
    return bytes(changed)


@pytest.mark.parametrize("damage", [flipped, unknown_method])
def test_a_damaged_wheel_costs_itself_and_not_the_parts_before_it(
    store: ModelStore, shelf: Path, damage: Callable[[bytes], bytes]
) -> None:
    spec = tiny.parts(shelf, MODEL)
    first, second = sorted(shelf.iterdir())
    whole = second.read_bytes()
    wheels = part_folder(store, spec) / "wheels"
    hidden = second.rename(shelf.parent / second.name)
    refused(tiny.entry(MODEL, spec), store)
    # As a broken disk would leave it: a wheel in place whose bytes are not what they were.
    tiny.write(wheels / second.name, damage(whole))
    error = refused(tiny.entry(MODEL, spec), store)
    assert error.code == "DOWNLOAD_FAILED"
    assert "damaged" in error.cause
    first.unlink()
    hidden.rename(second)
    assert pull(tiny.entry(MODEL, spec), store, EVERYWHERE).path.read_bytes() == MODEL


@pytest.mark.parametrize(
    "data",
    [{}, {"data/a.bin": b"1", "data/b.bin": b"2"}, {"data/a.bin": MODEL + b"more"}, {"data/a.bin": MODEL[:-1] + b"x"},
     {"data/a.bin": MODEL[:-9]}],
    ids=["no data", "two files", "too long", "other bytes", "too short"],
)  # fmt: skip
def test_a_wheel_with_other_content_is_refused_and_thrown_away(
    store: ModelStore, shelf: Path, data: dict[str, bytes]
) -> None:
    tiny.wheel(shelf, "tiny-part1", data)
    error = refused(tiny.entry(MODEL, IndexSpec(("tiny-part1==1.0",))), store)
    assert error.code == "DOWNLOAD_WRONG"
    assert tiny.tree(store.root) == []


def test_after_a_wrong_file_the_next_source_is_tried(store: ModelStore, shelf: Path, site: Site) -> None:
    site.content = MODEL
    tiny.wheel(shelf, "tiny-part1", {"data/a.bin": b"something else"})
    entry = tiny.entry(MODEL, IndexSpec(("tiny-part1==1.0",)), UrlSpec(site.url))
    assert pull(entry, store, EVERYWHERE).source == "url"
    assert tiny.tree(store.root) == [BLOB, "manifests/tiny%3A1b.json"]


def test_addresses_in_pips_complaint_are_not_repeated(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "http://user:hunter2@127.0.0.1:9/")
    monkeypatch.setenv("PIP_RETRIES", "0")
    error = refused(tiny.entry(MODEL, IndexSpec(("tiny-part1==1.0",))), store)
    assert error.code == "DOWNLOAD_FAILED"
    assert "hunter2" not in str(error)


def test_a_folder_of_the_callers_cannot_stand_in_for_pip(
    store: ModelStore, shelf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write(tmp_path / "pip" / "__main__.py", b"raise SystemExit('not the real pip')")
    tiny.write(tmp_path / "pip" / "__init__.py", b"")
    assert pull(tiny.entry(MODEL, tiny.parts(shelf, MODEL, 1)), store, EVERYWHERE).source == "index"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_is_said_and_what_arrived_is_kept(store: ModelStore, shelf: Path) -> None:
    spec = tiny.parts(shelf, MODEL)
    folder = part_folder(store, spec)
    folder.mkdir(parents=True)
    (folder / "file").symlink_to("/dev/full")
    error = refused(tiny.entry(MODEL, spec), store)
    assert error.code == "DISK_FULL"
    assert next((folder / "wheels").glob("*.whl")).name.startswith("tiny_part1")
    (folder / "file").unlink()
    assert pull(tiny.entry(MODEL, spec), store, EVERYWHERE).path.read_bytes() == MODEL
