"""What was found: each finding with its weight and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; may be meant so."""
    WARNING = "warning"
    """Works, and will not for ever or not well."""
    ERROR = "error"
    """Something that was asked for cannot work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    severity: Severity
    subject: str
    text: str
    hint: str = ""

    def to_json(self) -> dict[str, str]:
        """The row for programs."""
        return {
            "severity": self.severity.value,
            "subject": self.subject,
            "text": self.text,
            "hint": self.hint,
        }


def ok(subject: str, text: str) -> Finding:
    """As it should be."""
    return Finding(Severity.OK, subject, text)


def note(subject: str, text: str, hint: str = "") -> Finding:
    """Worth knowing."""
    return Finding(Severity.NOTE, subject, text, hint)


def warning(subject: str, text: str, hint: str) -> Finding:
    """Will not always do."""
    return Finding(Severity.WARNING, subject, text, hint)


def error(subject: str, text: str, hint: str) -> Finding:
    """Cannot work."""
    return Finding(Severity.ERROR, subject, text, hint)
