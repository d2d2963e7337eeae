"""Names of models, and sizes in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedside.core.errors import BedsideError
from bedside.models.names import check_name, file_name, is_name, name_of, near
from bedside.models.sizes import human

KNOWN = ["llama2:7b", "llama2:13b", "mistral:7b", "mistral:7b-instruct", "qwen2.5-coder:0.5b", "smollm2:135m"]


@pytest.mark.parametrize("name", ["mistral:7b", "qwen2.5-coder:0.5b", "owner/model:q4_0", "a/b/c:1"])
def test_a_name_of_model_and_tag_is_good_and_comes_back_from_its_file(name: str) -> None:
    assert check_name(name) == name
    assert "/" not in file_name(name)
    assert name_of(file_name(name)) == name


@pytest.mark.parametrize(
    "name",
    ["", "mistral", ":7b", "mistral:", "Mistral:7b", "../a:b", "a/../b:c", "/a:b", "a//b:c", "a:b/c", "a:b\n", "a b:c",
     "a:b:c", "a%2f:b", "-a:b", "a" * 81 + ":b", "a/b/c/d:e"],
)  # fmt: skip
def test_anything_else_is_no_name(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(BedsideError) as caught:
        file_name(name)
    assert caught.value.code == "MODEL_NAME_INVALID"


@given(st.text())
def test_a_file_that_is_no_manifest_has_no_name(text: str) -> None:
    found = name_of(text)
    assert found is None or file_name(found) == text


@pytest.mark.parametrize(
    ("wrong", "best"),
    [
        ("mistral", "mistral:7b"),
        ("mistral:7b-instrukt", "mistral:7b-instruct"),
        ("lama2:13b", "llama2:13b"),
        ("QWEN2.5-coder", "qwen2.5-coder:0.5b"),
        ("smollm:135m", "smollm2:135m"),
    ],
)
def test_the_nearest_name_comes_first(wrong: str, best: str) -> None:
    assert near(wrong, KNOWN)[0] == best


def test_nothing_is_near_a_name_like_no_other() -> None:
    assert near("zzz", KNOWN) == []
    assert near("", KNOWN) == []


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (491_400_064, "491.4 MB"),
        (999_960_000, "1.0 GB"),
        (1 << 70, "1180.6 EB"),
    ],
)
def test_sizes_are_said_in_decimal_units(size: int, words: str) -> None:
    assert human(size) == words
