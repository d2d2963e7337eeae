"""The four sections of a SOAP note (Weed 1968, NEJM 278:593), in their order."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    """``name`` as in the answer's JSON, ``heading`` as a reader sees it, ``what`` belongs in it.

    ``asked`` is what the model is told to write: small models take "Objective" for an aim, and write one.
    """

    name: str
    heading: str
    what: str
    asked: str


SECTIONS = (
    Section(
        "subjective",
        "Subjective",
        "what the patient reports: complaint and history",
        "Subjective section of a SOAP note",
    ),
    Section("objective", "Objective", "vital signs, examination findings and test results", "findings for a SOAP note"),
    Section("assessment", "Assessment", "the clinical impression", "Assessment section of a SOAP note"),
    Section("plan", "Plan", "next steps for the clinician to consider", "Plan section of a SOAP note"),
)
