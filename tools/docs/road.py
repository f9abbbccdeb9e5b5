"""The road of one reading through the modules, in order, for docs/dataflow.md. Does no I/O."""

from __future__ import annotations

from typing import Final

STEPS: Final = (
    (
        "lmn/wmbus/driver.py",
        (
            "a stick hears a telegram (`lmn/sml`, `lmn/wired`: heads and lines, put together in "
            "`firmware/wired`)"
        ),
    ),
    (
        "firmware/flow/pipeline.py",
        "drives everything that follows: three services with two bounded queues between them",
    ),
    (
        "firmware/flow/intake.py",
        (
            "authenticates, decodes, stamps with the time of the first byte, seals reading and counter in "
            "one commit"
        ),
    ),
    (
        "firmware/metering/register.py",
        "picks the value that counts at a registration instant, or notes that there was none",
    ),
    ("firmware/metering/original.py", "keeps it in the original list; nothing later changes it"),
    ("firmware/flow/meter_watch.py", "tells the logs of a silent meter, another status, a period that ended"),
    ("firmware/enforcement/schedule.py", "says when instants and periods fall, by the profile alone"),
    (
        "firmware/flow/due.py",
        "what is due to whom by now, also under profiles that an order is about to end",
    ),
    (
        "firmware/flow/evaluation.py",
        "gathers what a tariff needs from the list, signs values if the profile says so",
    ),
    (
        "firmware/metering/tariff/catalogue.py",
        "the table of tariff use cases; one pure module each beside it",
    ),
    ("firmware/metering/dataset.py", "the result as the document that a recipient gets"),
    (
        "firmware/enforcement/gate.py",
        (
            "lets it out, under which name, or denies it: the only place that decides, and the only maker "
            "of a release"
        ),
    ),
    (
        "firmware/enforcement/dcnet",
        "instead, for a profile that conceals: what goes into a sum and never leaves alone",
    ),
    ("firmware/flow/delivery.py", "from data set to release to outbox; the consumer's log is told"),
    ("wan/emp/outbox.py", "seals it for its recipient, keeps it until it arrived"),
    ("wan/emp/client.py", "hands it over (`wan/emp/forward.py`: by way of the administrator)"),
    ("firmware/flow/undelivered.py", "what is not taken: an alarm; what nobody will fetch any more: an end"),
)
"""(module or package, what it does with the reading)."""


def section() -> str:
    """Return the table."""
    lines = ["| # | module | what happens to a reading there |", "| --- | --- | --- |"]
    lines += [f"| {number} | `{path}` | {text} |" for number, (path, text) in enumerate(STEPS, start=1)]
    return "\n".join(lines)
