"""Drafts a SOAP note. One short question per section: small models write four short things better than
one long one, and each question reuses the reading of the one before."""

import re
from collections.abc import Sequence

from bedside.clinical.base import Flag, Step, Task, TaskResult, conversation, with_defaults
from bedside.clinical.base import instructions as read
from bedside.clinical.evidence.support import mark, unsupported
from bedside.clinical.soap_note.schema import SECTIONS, Section
from bedside.core.request import TaskRequest

TOKENS_PER_SECTION = 256


class SoapNote(Task):
    """Four steps, one per section; every sentence that does not rest on the source is flagged."""

    name = "soap-note"
    title = "SOAP note"

    def steps(self, request: TaskRequest) -> Sequence[Step]:
        options = with_defaults(request.options, temperature=0.0, max_tokens=TOKENS_PER_SECTION)
        prompt = read(__package__, "prompt.md")
        return [
            Step(s.name, conversation(request.text, prompt.format(asked=s.asked, what=s.what)), options, s.heading)
            for s in SECTIONS
        ]

    def finish(self, request: TaskRequest, answers: Sequence[str]) -> TaskResult:
        parts = {s.name: _without_heading(s, answer) for s, answer in zip(SECTIONS, answers, strict=True)}
        found = {name: unsupported(text, request.text) for name, text in parts.items()}
        flags = [Flag(name, sentence.text, sentence.reason) for name, bad in found.items() for sentence in bad]
        text = "\n\n".join(f"{s.heading}: {mark(parts[s.name], found[s.name])}" for s in SECTIONS)
        return TaskResult(text, parts, flags)


def _without_heading(section: Section, answer: str) -> str:
    """Models like to repeat the heading that they were asked to leave out."""
    return re.sub(rf"^\W*{section.heading}\W*:\W*", "", answer.strip(), count=1, flags=re.IGNORECASE) or answer.strip()
