"""Does a sentence rest on its source? What the deterministic check finds, and what it does not claim."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedside.clinical.evidence.support import mark, unsupported

SOURCE = "65-year-old male with chest pain since two days, BP 150/95, HR 88. Takes metformin 500 mg twice daily."


@pytest.mark.parametrize(
    "sentence",
    [
        "The patient is a 65-year-old male with chest pain.",
        "BP 150/95, HR 88.",
        "Metformin 500 mg twice daily.",
        "Not documented.",
        "None.",
        "Test results: Not documented.",
        "Chest pains.",
    ],
)
def test_what_rests_on_the_source_is_not_marked(sentence: str) -> None:
    assert not unsupported(sentence, SOURCE)


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("BP 120/80.", "120, 80"),
        ("Takes metformin 850 mg twice daily.", "850"),
        ("HR 88.5.", "88.5"),
        ("Troponin is elevated and the ECG shows infarction.", "words"),
        ("Start aspirin and admit for observation.", "words"),
    ],
)
def test_what_does_not_is_marked_with_the_reason(sentence: str, reason: str) -> None:
    (found,) = unsupported(sentence, SOURCE)
    assert found.text == sentence
    assert reason in found.reason


def test_only_the_sentence_that_has_no_support_is_marked() -> None:
    text = "Chest pain since two days. Fever of 39.4. HR 88."
    found = unsupported(text, SOURCE)
    assert mark(text, found) == "Chest pain since two days. Fever of 39.4. [not in source] HR 88."


def test_the_numbers_of_a_list_are_not_statements() -> None:
    text = "1. Chest pain since two days.\n2. Admit for observation tonight.\nHR 9."
    assert [found.text for found in unsupported(text, SOURCE)] == ["Admit for observation tonight.", "HR 9."]


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_judged_and_nothing_is_lost_by_marking(text: str, source: str) -> None:
    found = unsupported(text, source)
    assert all(sentence.text in text for sentence in found)
    assert mark(text, found).replace(" [not in source]", "") == text.replace(" [not in source]", "")


@given(st.text(alphabet="abcdefg 0123456789.,", min_size=1, max_size=200))
def test_a_text_supports_itself(text: str) -> None:
    assert not unsupported(text, text)
