"""The four sections of a SOAP note (Weed 1968, NEJM 278:593), in their order."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    """``name`` as in the answer's JSON, ``heading`` as a reader sees it, ``what`` belongs in it."""

    name: str
    heading: str
    what: str


SECTIONS = (
    Section("subjective", "Subjective", "what the patient reports: complaint and history"),
    Section("objective", "Objective", "vital signs, examination findings and test results"),
    Section("assessment", "Assessment", "the clinical impression"),
    Section("plan", "Plan", "next steps for the clinician to consider"),
)
