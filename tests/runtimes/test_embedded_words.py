"""llama.cpp's words: what its events mean, and what is refused rather than guessed."""

import json

import pytest

from bedside.core.chat import FinishReason
from bedside.core.errors import BedsideError
from bedside.runtimes import embedded_words as words

MARKER = "Zyx-Patient-Marker"


def data(**event: object) -> bytes:
    return b"data: " + json.dumps(event).encode()


def code_of(line: bytes) -> str:
    with pytest.raises(BedsideError) as caught:
        words.event(line, "tiny")
    assert MARKER not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("line", [b": ping", b"data: [DONE]", b"event: token", b"id: 1"])
def test_lines_without_data_say_nothing(line: bytes) -> None:
    assert words.event(line, "tiny") == {}


@pytest.mark.parametrize("line", [b"data: {", b"data: []", b"data: 7"])
def test_what_is_no_record_is_garbled(line: bytes) -> None:
    assert code_of(line) == "NODE_GARBLED"


def test_an_error_inside_the_stream_is_an_error_and_its_text_stays_behind() -> None:
    inside = {"code": 500, "message": MARKER, "type": "server_error"}
    assert code_of(data(error=inside)) == "NODE_ERROR"
    assert code_of(b"error: " + json.dumps(inside).encode()) == "NODE_ERROR"
    assert code_of(data(error=MARKER)) == "NODE_ERROR"


def test_a_refusal_for_length_keeps_its_numbers() -> None:
    inside = {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 900, "n_ctx": 512}
    error = words.refusal(400, json.dumps({"error": inside}).encode(), "tiny")
    assert error.code == "PROMPT_TOO_LONG"
    assert "900" in error.cause
    assert "512" in error.cause


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"error": "' + MARKER.encode() + b'"}'])
def test_any_other_refusal_is_told_by_its_status(body: bytes) -> None:
    error = words.refusal(503, body, "tiny")
    assert error.code == "NODE_ERROR"
    assert "503" in error.cause
    assert MARKER not in str(error)


@pytest.mark.parametrize("event", [{"prompt_progress": {"total": 99}}, {"usage": {"prompt_tokens": 99}}])
def test_another_prompt_length_than_was_sent_is_a_cut(event: dict[str, object]) -> None:
    with pytest.raises(BedsideError) as caught:
        words.refuse_cut(event, 100)
    assert caught.value.code == "CONTEXT_MISMATCH"
    words.refuse_cut(event, 99)


def test_there_is_no_final_record_without_a_reason_or_without_counts() -> None:
    usage = {"usage": {"prompt_tokens": 9, "completion_tokens": 2}}
    assert words.finished(usage, None) is None
    assert words.finished({}, FinishReason.STOP) is None
    assert words.finished(usage, FinishReason.STOP) is not None


@pytest.mark.parametrize(
    "event",
    [
        {"choices": 7},
        {"choices": [7]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"content": 7}}]},
    ],
)
def test_a_choice_of_another_shape_is_garbled(event: dict[str, object]) -> None:
    with pytest.raises(BedsideError) as caught:
        words.text_of(event)
    assert caught.value.code == "NODE_GARBLED"


@pytest.mark.parametrize("usage", [{"prompt_tokens": 9}, {"prompt_tokens": "9", "completion_tokens": 2}, [1]])
def test_a_final_record_without_its_counts_is_garbled(usage: object) -> None:
    with pytest.raises(BedsideError) as caught:
        words.finished({"usage": usage}, FinishReason.STOP)
    assert caught.value.code == "NODE_GARBLED"


def test_a_count_that_is_no_count_is_garbled() -> None:
    assert words.counted({"input_tokens": 7}) == 7
    with pytest.raises(BedsideError):
        words.counted({"input_tokens": True})
