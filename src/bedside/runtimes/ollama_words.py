"""Ollama's own words, and what they mean in ours: requests, records, refusals, model lists. Pure.

Shapes after docs.ollama.com/api and ``api/types.go`` of Ollama 0.40. Two fields are not in its reference:
``truncate`` and ``shift`` (both true when absent). Refused texts of a prompt that does not fit: 0.12.6 to 0.29
"the input length exceeds the context length"; from 0.30 on the engine's own JSON error, as a string in ``error``.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bedside.core.chat import Finished, FinishReason, Generation, ModelInfo

Record = Mapping[str, object]

# The first release that keeps ``truncate: false``; older ones ignore it and cut the prompt, saying nothing.
NEEDED = (0, 12, 6)
# No text averages this many bytes per token once runs of one character are counted once: English has about
# 4.5, the densest published tokenizers (tokens across words, vocabularies of 200k) stay under 10.
MOST_BYTES_PER_TOKEN = 32
# Engines round a context up to a multiple of this.
CONTEXT_STEP = 256

_TOO_LONG = re.compile(
    r"request \(\d+ tokens\) exceeds the available context"
    r"|the request exceeds the available context"
    r"|(the )?input length exceeds"
    r"|the prompt is longer than the context length",
    re.IGNORECASE,
)
_RUN = re.compile(r"\s+|(.)\1+", re.DOTALL)
_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True, slots=True)
class Shown:
    """What ``/api/show`` tells of one model, as far as it is used here."""

    capabilities: tuple[str, ...] = ()
    context_length: int | None = None
    parameters: int | None = None
    license: str | None = None
    remote: bool = False


def canonical(name: str) -> str:
    """The name as lists carry it: ``llama3`` is ``llama3:latest``."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def is_cloud_name(name: str) -> bool:
    """Whether the name alone sends the work elsewhere: a node takes ``…-cloud`` and ``…:cloud`` unasked."""
    base, _, tag = canonical(name.lower()).rpartition(":")
    return tag == "cloud" or tag.endswith("-cloud") or base.endswith("-cloud")


def is_remote(record: Record) -> bool:
    """Whether a listed model, a shown one or an answer says that the work is done elsewhere."""
    return bool(record.get("remote_host") or record.get("remote_model"))


def too_old(version: str) -> bool:
    """Whether a node of this version is known to cut prompts. 0.0.0 is a build of one's own: can't tell, so no."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    number = tuple(int(part) for part in found.groups()) if found else (0, 0, 0)
    return (0, 0, 0) < number < NEEDED


def chat_body(name: str, generation: Generation, context: int) -> dict[str, object]:
    """The body of ``POST /api/chat``. ``shift`` is off so that a long answer can't push the prompt out either."""
    return {
        "model": name,
        "messages": [_message(m.role, m.content, m.images) for m in generation.messages],
        "stream": True,
        "truncate": False,
        "shift": False,
        "options": _options(generation, context),
    }


def _message(role: str, content: str, images: object) -> dict[str, object]:
    pictures = [base64.b64encode(image).decode() for image in images] if isinstance(images, list | tuple) else []
    return {"role": role, "content": content, **({"images": pictures} if pictures else {})}


def _options(generation: Generation, context: int) -> dict[str, object]:
    asked = generation.options
    wanted: dict[str, object] = {
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "num_predict": asked.max_tokens,
        "seed": asked.seed,
        "stop": list(asked.stop) or None,
        "num_ctx": context,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def refusal_for_length(error: object) -> tuple[int | None, int | None] | None:
    """(prompt tokens, limit), as far as the node told them, if ``error`` says that the prompt does not fit."""
    inner = _inner(error)
    if inner.get("type") == "exceed_context_size_error":
        return whole(inner.get("n_prompt_tokens")), whole(inner.get("n_ctx"))
    message = inner.get("message", error)
    return (None, None) if isinstance(message, str) and _TOO_LONG.match(message) else None


def _inner(error: object) -> Record:
    try:
        found = json.loads(error) if isinstance(error, str) else error
    except ValueError:
        return {}
    inner = found.get("error") if isinstance(found, dict) else None
    return inner if isinstance(inner, dict) else {}


def text_of(record: Record) -> str | None:
    """The piece of answer in a record ("" for none, as while a model thinks); ``None`` when it is no record."""
    message = record.get("message", {})
    content = message.get("content", "") if isinstance(message, dict) else None
    return content if isinstance(content, str) else None


def finished(record: Record) -> Finished | None:
    """The final record, or ``None``: not done yet, or done with loading or unloading, which is no answer."""
    reason = record.get("done_reason")
    if record.get("done") is not True or reason not in ("stop", "length"):
        return None
    return Finished(
        reason=FinishReason(str(reason)),
        prompt_tokens=whole(record.get("prompt_eval_count")) or 0,
        completion_tokens=whole(record.get("eval_count")) or 0,
        cached_tokens=whole(record.get("prompt_eval_cached_count")) or 0,
        prompt_ns=whole(record.get("prompt_eval_duration")) or 0,
        completion_ns=whole(record.get("eval_duration")) or 0,
    )


def proof_of_cut(generation: Generation, end: Finished, context: int) -> int | None:
    """The fewest tokens the prompt must have had, if ``end`` reports what a whole prompt can't; else ``None``.

    Three marks: fewer tokens than the text can have; the context filled to the brim by the prompt alone (a
    prompt that fits leaves room); more tokens in all than the context holds, so that the beginning was dropped.
    ``prompt_eval_count`` counts cached tokens too, but for some early 0.30 releases: those are refused here.
    """
    least = least_tokens(generation, end.prompt_tokens)
    if end.prompt_tokens < least:
        return least
    if end.prompt_tokens >= context or end.prompt_tokens + end.completion_tokens > context + CONTEXT_STEP:
        return max(context, end.prompt_tokens)
    return None


def least_tokens(generation: Generation, reported: int = 0) -> int:
    """A floor for the tokens of the messages' text; ``reported`` spares the work when it is clearly above."""
    size = sum(len(m.content.encode("utf-8", "replace")) for m in generation.messages)
    if size > reported * MOST_BYTES_PER_TOKEN:
        # Vocabularies have tokens for 128 blanks or dashes, so a run counts as one character.
        size = sum(len(_RUN.sub(r"\1", m.content).encode("utf-8", "replace")) for m in generation.messages)
    return 1 + size // MOST_BYTES_PER_TOKEN if size else 0


def shown(answer: Record) -> Shown:
    """The facts in an answer of ``POST /api/show``."""
    info = answer.get("model_info")
    facts = info if isinstance(info, dict) else {}
    capabilities = answer.get("capabilities")
    license_name = facts.get("general.license")
    return Shown(
        capabilities=tuple(str(each) for each in capabilities) if isinstance(capabilities, list) else (),
        context_length=whole(facts.get(f"{facts.get('general.architecture')}.context_length")),
        parameters=whole(facts.get("general.parameter_count")),
        license=license_name if isinstance(license_name, str) else None,
        remote=is_remote(answer),
    )


def model_info(name: str, entry: Record, facts: Shown, context: int | None) -> ModelInfo:
    """One model of ``GET /api/tags`` with what ``/api/show`` added."""
    found = entry.get("details")
    details = found if isinstance(found, dict) else {}
    return ModelInfo(
        name=name,
        display_name=name.removesuffix(":latest"),
        size=whole(entry.get("size")) or 0,
        type="vision" if "vision" in facts.capabilities else "text",
        capabilities=facts.capabilities,
        installed=True,
        quantization=_text(details.get("quantization_level")),
        digest=digest(entry),
        license=facts.license,
        context_length=context,
        family=_text(details.get("family")),
        parameters=facts.parameters or _parameters(details.get("parameter_size")),
    )


def digest(entry: Record) -> str | None:
    """``sha256:<hex>``; lists give it with or without the prefix."""
    found = re.fullmatch(r"(?:sha256[:-])?([0-9a-f]{64})", str(entry.get("digest", "")))
    return f"sha256:{found[1]}" if found else None


def _parameters(label: object) -> int | None:
    found = re.fullmatch(r"([0-9.]+)\s*([KMBT])", str(label))
    try:
        return round(float(found[1]) * _UNITS[found[2]]) if found else None
    except ValueError:
        return None


def whole(value: object) -> int | None:
    """A count as it came, if it is one: not negative, no fraction, no bool."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
