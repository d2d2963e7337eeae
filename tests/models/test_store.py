"""The models folder: whole or not there, one file for one digest, safe for several at once."""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from tests.models import tiny

from bedside.core.clock import SetClock
from bedside.core.errors import BedsideError
from bedside.models.store import ModelStore

A, B = tiny.gguf_bytes(seed=b"a"), tiny.gguf_bytes(seed=b"b")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "in" / "a.gguf", A)


def code_of(error: pytest.ExceptionInfo[BedsideError]) -> str:
    return error.value.code


def test_an_added_file_is_a_model_that_stays_when_the_file_goes(tmp_path: Path, file: Path) -> None:
    store = ModelStore(tmp_path / "models", SetClock())
    seen: list[tuple[int, int]] = []
    added = store.add("own:1b", file, progress=lambda done, total: seen.append((done, total)))
    file.unlink()
    found = store.find("own:1b")
    assert found == added
    assert found is not None
    assert found.path.read_bytes() == A
    assert found.digest == f"sha256:{tiny.sha256(A)}"
    assert (found.size, found.source, found.added) == (len(A), "added", "2026-09-21T14:13:20.000Z")
    assert found.gguf.context_length == 2048
    assert seen == [(len(A), len(A))]
    assert store.installed() == [found]


def test_an_added_file_describes_itself_as_every_door_describes_a_model(store: ModelStore, file: Path) -> None:
    info = store.add("own:1b", file).info()
    assert (info.name, info.display_name, info.installed, info.type) == ("own:1b", "Tiny", True, "text")
    assert (info.quantization, info.family, info.parameters, info.license) == ("Q4_0", "llama", 192, None)


def test_an_empty_store_has_no_models_and_is_not_made_by_looking(store: ModelStore) -> None:
    assert store.installed() == []
    assert store.find("own:1b") is None
    assert store.find("../../etc/passwd") is None
    assert store.remove("own:1b") is None
    assert not store.root.exists()


def test_a_file_that_is_no_model_never_becomes_visible(tmp_path: Path, store: ModelStore) -> None:
    with pytest.raises(BedsideError) as caught:
        store.add("own:1b", tiny.write(tmp_path / "x.gguf", A[:-1]))
    assert code_of(caught) == "GGUF_INVALID"
    assert store.installed() == []


@pytest.mark.parametrize("name", ["none.gguf", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, store: ModelStore, name: str) -> None:
    with pytest.raises(BedsideError) as caught:
        store.add("own:1b", tmp_path / name)
    assert code_of(caught) == "FILE_UNREADABLE"


def test_a_name_that_would_leave_the_folder_is_refused(store: ModelStore, file: Path) -> None:
    with pytest.raises(BedsideError) as caught:
        store.add("../out:1b", file)
    assert code_of(caught) == "MODEL_NAME_INVALID"


def test_adding_the_same_file_again_changes_nothing_but_the_manifest(store: ModelStore, file: Path) -> None:
    store.add("own:1b", file)
    store.add("own:1b", file)
    assert tiny.tree(store.root) == [f"blobs/sha256-{tiny.sha256(A)}", "manifests/own%3A1b.json"]


def test_a_name_in_use_is_not_given_to_another_file(tmp_path: Path, store: ModelStore, file: Path) -> None:
    first = store.add("own:1b", file)
    with pytest.raises(BedsideError) as caught:
        store.add("own:1b", tiny.write(tmp_path / "b.gguf", B))
    assert code_of(caught) == "MODEL_EXISTS"
    assert store.installed() == [first]


def test_a_catalogue_name_is_not_given_to_a_file_with_another_digest(store: ModelStore, file: Path) -> None:
    with pytest.raises(BedsideError) as caught:
        store.add("tiny:1b", file, tiny.entry(B).info())
    assert code_of(caught) == "MODEL_FILE_WRONG"
    assert store.installed() == []


def test_a_catalogue_name_brings_its_description_and_licence(store: ModelStore, file: Path) -> None:
    info = store.add("tiny:1b", file, tiny.entry(A).info()).info()
    assert (info.display_name, info.description, info.license) == ("Tiny 1B", "For tests.", "Apache-2.0")


def test_two_names_share_one_file_until_the_last_one_goes(store: ModelStore, file: Path) -> None:
    blob = store.add("own:1b", file).path
    store.add("own:also", file)
    first = store.remove("own:1b")
    assert first is not None
    assert (first.freed, first.still_used_by) == (0, ("own:also",))
    assert blob.exists()
    second = store.remove("own:also")
    assert second is not None
    assert second.freed == len(A)
    assert tiny.tree(store.root) == []


def test_looking_at_a_removal_removes_nothing(store: ModelStore, file: Path) -> None:
    store.add("own:1b", file)
    removal = store.removal("own:1b")
    assert removal is not None
    assert removal.freed == len(A)
    assert store.find("own:1b") is not None


def test_a_linked_file_is_shared_and_a_copied_one_is_not(store: ModelStore, file: Path) -> None:
    assert store.add("own:1b", file, link=True).path.samefile(file)
    store.remove("own:1b")
    assert file.read_bytes() == A
    assert not store.add("own:1b", file).path.samefile(file)


@pytest.mark.parametrize(
    ("old", "new"),
    [("{", "", ), ('"format": 1', '"format": 2'), ('"size"', '"sighs"'), ('"sha256": "', '"sha256": "/../'),
     ('"gguf": {', '"gguf": {"more": 1, '), ('"version"', '"wersion"'), ("own:1b", "own:2b")],
)  # fmt: skip
def test_a_damaged_manifest_counts_as_not_installed_and_adding_mends_it(
    store: ModelStore, file: Path, old: str, new: str
) -> None:
    store.add("own:1b", file)
    manifest = store.root / "manifests" / "own%3A1b.json"
    whole = manifest.read_text()
    damaged = whole.replace(old, new, 1)
    manifest.write_text(damaged)
    extra_key_is_harmless = "more" in new
    assert (store.find("own:1b") is not None) == extra_key_is_harmless
    assert len(store.installed()) == int(extra_key_is_harmless)
    assert store.add("own:1b", file) == store.find("own:1b")


def test_a_file_of_another_size_than_recorded_counts_as_not_installed(store: ModelStore, file: Path) -> None:
    model = store.add("own:1b", file)
    os.truncate(model.path, 10)
    assert store.installed() == []
    assert store.add("own:1b", file).path.read_bytes() == A


def test_foreign_files_among_the_manifests_are_passed_over(store: ModelStore, file: Path) -> None:
    model = store.add("own:1b", file)
    tiny.write(store.root / "manifests" / "README.txt", b"hello")
    tiny.write(store.root / "manifests" / "..json", b"{}")
    assert store.installed() == [model]


def test_a_moved_store_still_has_its_models(tmp_path: Path, store: ModelStore, file: Path) -> None:
    store.add("own:1b", file)
    shutil.move(store.root, tmp_path / "moved")
    found = ModelStore(tmp_path / "moved").find("own:1b")
    assert found is not None
    assert found.path.read_bytes() == A


def test_what_a_killed_add_left_is_swept_by_the_next(store: ModelStore, file: Path) -> None:
    store.add("own:1b", file)
    tiny.write(store.root / "partial" / "adding" / "file", b"half a model")
    store.add("own:also", file)
    assert not any(path.startswith("partial") for path in tiny.tree(store.root))


def test_who_comes_second_is_told_and_waits_for_the_first(store: ModelStore, file: Path) -> None:
    waits, done, order = threading.Event(), threading.Event(), []

    def second() -> None:
        store.add("own:1b", file, waiting=waits.set)
        order.append("second")
        done.set()

    thread = threading.Thread(target=second)
    with store.lock(tiny.sha256(A)):
        thread.start()
        assert waits.wait(30)
        order.append("first")
    assert done.wait(30)
    thread.join()
    assert order == ["first", "second"]
    assert store.find("own:1b") is not None


def test_a_folder_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path, file: Path) -> None:
    store = ModelStore(tiny.write(tmp_path / "plain", b"a file") / "models")
    with pytest.raises(BedsideError) as caught:
        store.add("own:1b", file)
    assert code_of(caught) == "MODELS_FOLDER"
    assert "BEDSIDE_MODELS_DIR" in caught.value.cure


def test_a_manifest_holds_no_path_of_this_machine(store: ModelStore, file: Path) -> None:
    store.add("own:1b", file)
    manifest = (store.root / "manifests" / "own%3A1b.json").read_text()
    assert str(store.root) not in manifest
    assert json.loads(manifest)["gguf"]["architecture"] == "llama"
