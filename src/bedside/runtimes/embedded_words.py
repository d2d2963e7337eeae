"""llama.cpp's own words, and what they mean in ours: the chat request, its events, its refusals. Pure.

Shapes after ``tools/server/README.md`` of llama.cpp: POST /v1/chat/completions, streamed, and its
``/input_tokens``. An error comes as a status, as an event inside a 200, or as an ``error:`` line.
"""

from collections.abc import Mapping, Sequence
from typing import cast

from bedside.core.chat import Finished, FinishReason, Generation
from bedside.core.errors import BedsideError
from bedside.runtimes import wire

Record = Mapping[str, object]
NODE = "embedded"
CHAT, COUNT = "/v1/chat/completions", "/v1/chat/completions/input_tokens"


def chat_body(generation: Generation, max_tokens: int | None = None) -> dict[str, object]:
    """The body of a streamed chat; without ``max_tokens`` it serves to count the prompt.

    Raises ``BAD_FIELD`` for half a surrogate pair: the engine would refuse it too, and quote the prompt
    in its log.
    """
    options = generation.options
    wanted: dict[str, object] = {
        "max_tokens": max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "seed": options.seed,
        "stop": list(options.stop) or None,
    }
    _refuse_halves([message.content for message in generation.messages], "prompt")
    _refuse_halves(options.stop, "stop")
    return {
        "messages": [{"role": message.role, "content": message.content} for message in generation.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,  # so that a long prompt being read is not silence
        "cache_prompt": True,
    } | {name: value for name, value in wanted.items() if value is not None}


def _refuse_halves(texts: Sequence[str], field: str) -> None:
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        raise BedsideError("BAD_FIELD", field=field, why="it holds half a surrogate pair, which is no text") from None


def event(line: bytes, model: str) -> Record:
    """The data of one line of the stream; empty for a line that carries none. Raises the error it carries."""
    name, _, value = line.partition(b":")
    if name not in (b"data", b"error") or value.strip() == b"[DONE]":
        return {}
    found = wire.record(value, NODE)
    if name == b"error":
        raise error(found, 200, model)
    if "error" in found:
        raise error(found["error"], 200, model)
    return found


def refusal(status: int, body: bytes, model: str) -> BedsideError:
    """The error for an answer whose status is not 200."""
    try:
        return error(wire.record(body, NODE).get("error"), status, model)
    except BedsideError:
        return error(None, status, model)


def error(facts: object, status: int, model: str) -> BedsideError:
    """The engine's own message stays behind: it may quote the request."""
    known = facts if isinstance(facts, dict) else {}
    if known.get("type") == "exceed_context_size_error":
        tokens, limit = whole(known.get("n_prompt_tokens")), whole(known.get("n_ctx"))
        return BedsideError("PROMPT_TOO_LONG", tokens=tokens, model=model, limit=limit)
    return BedsideError("NODE_ERROR", node=NODE, status=whole(known.get("code")) or status)


def counted(answer: Record) -> int:
    """Prompt tokens in an answer of ``/input_tokens``. Raises ``NODE_GARBLED``."""
    return _sure(whole(answer.get("input_tokens")))


def refuse_cut(event: Record, sent: int) -> None:
    """Raises ``CONTEXT_MISMATCH`` if the engine reports another length of the prompt than what was sent.

    It does so twice: with its progress, before the first token of the answer, and in the final record.
    """
    for part, name in (("prompt_progress", "total"), ("usage", "prompt_tokens")):
        reported = _part(event, part).get(name)
        if reported is not None and reported != sent:
            raise BedsideError("CONTEXT_MISMATCH", node=NODE, reported=whole(reported), counted=sent)


def text_of(event: Record) -> str:
    """The piece of answer in an event; "" for none. Raises ``NODE_GARBLED``."""
    content = _part(_choice(event), "delta").get("content") or ""
    if not isinstance(content, str):
        raise BedsideError("NODE_GARBLED", node=NODE)
    return content


def reason_of(event: Record) -> FinishReason | None:
    """Why the answer ended, in the event that says so."""
    reason = _choice(event).get("finish_reason")
    if reason is None:
        return None
    return FinishReason.LENGTH if reason == "length" else FinishReason.STOP


def finished(event: Record, reason: FinishReason | None) -> Finished | None:
    """The final record, once the usage has come after the reason; else ``None``. Raises ``NODE_GARBLED``."""
    usage, timings = _part(event, "usage"), _part(event, "timings")
    if not usage or reason is None:
        return None
    return Finished(
        reason,
        prompt_tokens=_sure(whole(usage.get("prompt_tokens"))),
        completion_tokens=_sure(whole(usage.get("completion_tokens"))),
        cached_tokens=whole(_part(usage, "prompt_tokens_details").get("cached_tokens")) or 0,
        prompt_ns=_ns(timings.get("prompt_ms")),
        completion_ns=_ns(timings.get("predicted_ms")),
    )


def whole(value: object) -> int | None:
    """A count as it came, if it is one: not negative, no fraction, no bool."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _sure(value: int | None) -> int:
    if value is None:
        raise BedsideError("NODE_GARBLED", node=NODE)
    return value


def _ns(milliseconds: object) -> int:
    return int(milliseconds * 1e6) if isinstance(milliseconds, int | float) else 0


def _part(record: Record, name: str) -> Record:
    found = record.get(name) or {}
    if not isinstance(found, dict):
        raise BedsideError("NODE_GARBLED", node=NODE)
    return found


def _choice(event: Record) -> Record:
    """The one choice of an event; the last event has none."""
    choices = event.get("choices") or [{}]
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise BedsideError("NODE_GARBLED", node=NODE)
    return cast(Record, choices[0])
