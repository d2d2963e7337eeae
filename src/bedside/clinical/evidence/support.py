"""Marks sentences that do not rest on the source text: a number that is not there, or mostly new words.

Deterministic and deliberately simple: it finds what a reader must check first, it does not prove that the
rest is right (a sentence may use the source's words and still turn their meaning round).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

ENOUGH = 0.6
"""Share of a sentence's content words that must stand in the source."""

_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?](?=\d)[^.!?\n]+)*[.!?]?")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LIST_MARK = re.compile(r"\d{1,2}[.)]")
_WORD = re.compile(r"[a-z]{3,}")
_NO_CLAIM = re.compile(r"([\w ]+:\s*)?(none|not documented|no documented [\w ]+)\W*", re.IGNORECASE)
_PLAIN = frozenset(
    _WORD.findall(
        """the and for with was were has had have been this that from are his her their its who which patient patients
        reports report reported states presents presented presenting complains complaint documented not noted none
        history vital signs sign examination findings exam year old male female man woman"""
    )
)


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A sentence, exactly as it stands in the text, and why it was marked."""

    text: str
    reason: str


def unsupported(text: str, source: str) -> Sequence[Unsupported]:
    """The sentences of ``text`` that do not rest on ``source``."""
    numbers, words = set(_NUMBER.findall(source)), _stems(source)
    found = (match for match in _SENTENCE.finditer(text) if not _is_list_mark(match, text))
    sentences = (match.group().strip() for match in found)
    return [Unsupported(s, reason) for s in sentences if s and (reason := _reason(s, numbers, words))]


def _is_list_mark(match: re.Match[str], text: str) -> bool:
    """``1.`` at the start of a line counts an item; it is no statement."""
    at_line_start = text[: match.start()].rstrip(" \t")[-1:] in ("", "\n")
    return at_line_start and _LIST_MARK.fullmatch(match.group().strip()) is not None


def mark(text: str, bad: Sequence[Unsupported]) -> str:
    """The text with ``[not in source]`` behind each such sentence."""
    for sentence in bad:
        text = text.replace(sentence.text, f"{sentence.text} [not in source]", 1)
    return text


def _reason(sentence: str, numbers: set[str], words: set[str]) -> str | None:
    if _NO_CLAIM.fullmatch(sentence):
        return None
    if strange := [n for n in _NUMBER.findall(sentence) if n not in numbers]:
        return "not in the source: " + ", ".join(strange)
    content = _stems(sentence)
    new = sorted(content - words)
    if content and len(new) / len(content) > 1 - ENOUGH:
        return "mostly words that are not in the source"
    return None


def _stems(text: str) -> set[str]:
    """Content words, without a final s, cut to six letters, so that ``elevated`` and ``elevation`` meet."""
    return {word.rstrip("s")[:6] for word in _WORD.findall(text.lower()) if word not in _PLAIN}
