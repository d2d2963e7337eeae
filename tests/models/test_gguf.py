"""The header reader: what it tells of a good file, and that it refuses every bad one."""

import struct
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models import tiny
from tests.models.tiny import ARRAY, KEYS, STRING, Tensor, gguf_bytes, key, number, word, words

from bedside.core.errors import BedsideError
from bedside.models import gguf

GOOD = gguf_bytes()
U64_MAX = (1 << 64) - 1


def read(tmp_path: Path, content: bytes) -> gguf.Gguf:
    return gguf.read(tiny.write(tmp_path / "model.gguf", content))


def refusal(tmp_path: Path, content: bytes) -> str:
    with pytest.raises(BedsideError) as caught:
        read(tmp_path, content)
    assert caught.value.code == "GGUF_INVALID"
    return caught.value.cause


def test_a_good_file_tells_its_facts(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD) == gguf.Gguf(
        version=3,
        architecture="llama",
        name="Tiny",
        quantization="Q4_0",
        parameters=32 * 4 + 64,
        tensors=2,
        context_length=2048,
        embedding_length=64,
        block_count=3,
        tokenizer="gpt2",
        has_chat_template=True,
        has_vision=False,
    )


def test_version_2_is_read_too(tmp_path: Path) -> None:
    assert read(tmp_path, gguf_bytes(version=struct.pack("<I", 2))).version == 2


def test_a_file_that_says_little_is_described_by_its_tensors(tmp_path: Path) -> None:
    facts = read(tmp_path, gguf_bytes([word("general.architecture", "llama")], [Tensor("v.blk.0", (64,), 1, 128)]))
    assert (facts.quantization, facts.name, facts.context_length) == ("F16", None, None)
    assert facts.has_vision
    assert not facts.has_chat_template


def test_a_file_of_full_precision_says_so(tmp_path: Path) -> None:
    keys = [word("general.architecture", "llama"), number("general.file_type", 0)]
    assert read(tmp_path, gguf_bytes(keys)).quantization == "F32"


def test_another_alignment_is_followed(tmp_path: Path) -> None:
    assert read(tmp_path, gguf_bytes([*KEYS, number("general.alignment", 256)], alignment=256)).tensors == 2


def test_a_vocabulary_longer_than_the_window_is_skipped_and_not_kept(tmp_path: Path) -> None:
    vocabulary = words("tokenizer.ggml.merges", ["x" * (n % 23) for n in range(200_000)])
    path = tiny.write(tmp_path / "model.gguf", gguf_bytes([vocabulary, *KEYS]))
    tracemalloc.start()
    facts = gguf.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert facts.name == "Tiny"
    assert peak < 4 << 20


ARCHITECTURE = KEYS[0]
BAD = {
    "empty": (b"", "ends in the middle"),
    "other magic": (gguf_bytes(magic=b"GGML"), "does not begin"),
    "pickle": (b"\x80\x04\x95" + b"\x00" * 64, "does not begin"),
    "version 1": (gguf_bytes(version=struct.pack("<I", 1)), "version"),
    "big-endian": (gguf_bytes(version=struct.pack(">I", 3)), "big-endian"),
    "no tensors": (gguf_bytes(tensors=[]), "number of tensors"),
    "lying tensor count": (gguf_bytes(tensor_count=U64_MAX), "number of tensors"),
    "one tensor too many": (gguf_bytes(tensor_count=3), ""),
    "lying key count": (gguf_bytes(key_count=U64_MAX), "number of keys"),
    "one key too many": (gguf_bytes(key_count=len(KEYS) + 1), ""),
    "no architecture": (gguf_bytes(KEYS[1:]), "architecture"),
    "architecture is a number": (gguf_bytes([number("general.architecture", 1)]), "architecture"),
    "key twice": (gguf_bytes([*KEYS, KEYS[1]]), "twice"),
    "key too long": (gguf_bytes([word("k" * 2000, "v")]), "too long"),
    "not UTF-8": (gguf_bytes([word("general.architecture", b"\xff\xfe")]), "UTF-8"),
    "lying string": (gguf_bytes([ARCHITECTURE, key("a", STRING, struct.pack("<Q", U64_MAX))]), "middle"),
    "lying list": (gguf_bytes([ARCHITECTURE, key("a", ARRAY, struct.pack("<IQ", 0, U64_MAX))]), "list"),
    "list over the end": (gguf_bytes([ARCHITECTURE, key("a", ARRAY, struct.pack("<IQ", 10, 1 << 20))]), "middle"),
    "strings over the end": (gguf_bytes([ARCHITECTURE, key("a", ARRAY, struct.pack("<IQ", 8, 1 << 20))]), "middle"),
    "list of lists": (gguf_bytes([ARCHITECTURE, key("a", ARRAY, struct.pack("<IQ", ARRAY, 1))]), "unknown type"),
    "unknown value": (gguf_bytes([ARCHITECTURE, key("a", 99, b"")]), "unknown type"),
    "alignment 3": (gguf_bytes([*KEYS, number("general.alignment", 3)]), "alignment"),
    "alignment 0": (gguf_bytes([*KEYS, number("general.alignment", 0)]), "alignment"),
    "context is a word": (gguf_bytes([ARCHITECTURE, word("llama.context_length", "long")]), "number"),
    "part of a split": (gguf_bytes([*KEYS, number("split.count", 2)]), "part of a model"),
    "unknown tensor type": (gguf_bytes(tensors=[Tensor(kind=4)]), "unknown type"),
    "no dimensions": (gguf_bytes(tensors=[Tensor(shape=())]), "dimensions"),
    "five dimensions": (gguf_bytes(tensors=[Tensor(shape=(32, 1, 1, 1, 1))]), "dimensions"),
    "zero elements": (gguf_bytes(tensors=[Tensor(shape=(0,))]), "shape"),
    "overflowing shape": (gguf_bytes(tensors=[Tensor(shape=(1 << 40, 1 << 40))]), "shape"),
    "half a block": (gguf_bytes(tensors=[Tensor(shape=(33,))]), "shape"),
    "tensor name too long": (gguf_bytes(tensors=[Tensor(name="n" * 64)]), "too long"),
    "tensor twice": (gguf_bytes(tensors=[Tensor(), Tensor()]), "twice"),
    "tensor out of place": (gguf_bytes(tensors=[Tensor(offset=64)]), "where it must be"),
    "cut short": (GOOD[:-1], "cut short"),
    "larger than the file": (gguf_bytes(tensors=[Tensor(shape=(1 << 30,))]), "cut short"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_no_engine_could_load_is_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    content, why = BAD[case]
    assert why in refusal(tmp_path, content)


def test_a_file_that_is_not_there_is_unreadable_and_not_invalid(tmp_path: Path) -> None:
    with pytest.raises(BedsideError) as caught:
        gguf.read(tmp_path / "none.gguf")
    assert caught.value.code == "FILE_UNREADABLE"


def outcome(content: bytes) -> str:
    """``good``, or the code of the refusal; anything else that is raised fails the test."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            gguf.read(Path(file.name))
        except BedsideError as error:
            return error.code
        return "good"


@settings(deadline=None, max_examples=200)
@given(length=st.integers(0, len(GOOD) - 1))
def test_a_file_cut_anywhere_is_refused(length: int) -> None:
    # The last tensor ends with the file, so that not one byte can be missing.
    assert outcome(GOOD[:length]) == "GGUF_INVALID"


@settings(deadline=None, max_examples=400)
@given(changes=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_file_with_changed_bytes_is_read_or_refused_and_nothing_else(changes: list[tuple[int, int]]) -> None:
    content = bytearray(GOOD)
    for place, value in changes:
        content[place] = value
    assert outcome(bytes(content)) in ("good", "GGUF_INVALID")


@settings(deadline=None, max_examples=300)
@given(
    place=st.integers(0, len(GOOD) - 8),
    lie=st.one_of(st.sampled_from([U64_MAX, 1 << 63, 1 << 40, 1 << 31, 1 << 22]), st.integers(0, U64_MAX)),
)
def test_a_lying_number_anywhere_costs_no_memory(place: int, lie: int) -> None:
    content = GOOD[:place] + struct.pack("<Q", lie) + GOOD[place + 8 :]
    tracemalloc.start()
    result = outcome(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result in ("good", "GGUF_INVALID")
    assert peak < 4 << 20
