"""Composes docs/logs.md: prose from here, tables from the code that decides. Does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from firmware.enforcement.roles import LOGS, TABLE, Act
from firmware.life.states import CAUSES, FORBIDDEN, Function, State
from firmware.log.analysis import RULES
from firmware.log.entry import Level, LogKind, Outcome
from firmware.log.vocabulary import MEANINGS

_PROSE: Final = """\
# Logs and operating states

Printed from the code by `python -m tools.docs`; change that, not this page.

## The three logs

| log | holds | when full |
| --- | --- | --- |
| system | operation and security | the oldest entries go, and the administrator is told |
| consumer, one each | what left of one consumer's data, to whom, when, and that it arrived; meters that \
fall \
silent or change their status; ends of billing periods; profiles; self-tests; its own readings | \
the oldest go, \
but nothing younger than the guaranteed time (`log.consumer_days`): the log grows instead, and the \
administrator \
is told |
| calibration | metrology alone | nothing goes: the administrator is told at nine tenths, and when it is \
full \
measuring stops |

An entry holds number, time, seconds since start, level ({levels}), outcome ({outcomes}), event and \
sub-event, \
subject, user, destination, number of the entry it belongs to, how often it was repeated, text and \
evidence. It \
never holds a reading, a key or a plaintext. An order and its entry are one commit, and so are a DC-net's \
total and \
its entry: a kill leaves both or neither. What the calibration log and the consumers' logs must be told of \
an order is remembered in the commit of its effect until they were; each consumer is told which of his \
profiles it changed.

## Who may read them

{readers}

Every reading asks [the role table](roles.md), hands out at most 1000 entries and 1 MiB, and is itself \
logged: in the log that was read, of the calibration log in the system log. On the machine itself \
the control socket (mode 0600) answers the gateway's own user and root, as the kernel names them, in the \
roles of `[control] roles` in `gateway.toml`: a technician's unless more is said there, so the calibration \
log and `smgw decommission` need `"gwa"` in it. A consumer's log needs the consumer's code, which \
`smgw log code --consumer NAME` makes and shows once (`smgw log consumer --code-file FILE`, or typed in); \
five wrong ones close the name for five minutes, and every refusal is in the system log. Whoever owns the \
machine can make a new code: against him no program on it protects.

## Chain and seals

Each entry names the SHA-256 of the one before it. Every `log.seal_s` seconds, and at the orderly stop, \
the \
security module signs (ECDSA, the gateway's SIG key) where each chain stands; the seals form a chain of \
their own. \
A gateway without a SIG key (one without an administrator) has chains and no seals, and says so.

`smgw log system -c DIR/gateway.toml --export FILE` writes an export: one JSON object a line, first a \
header, then \
the entries exactly as stored, at last the seals, the SHA-256 of each entry, and the module's closing \
signature \
over header and digests. `smgw log verify FILE --root root.pem` checks it anywhere and names the first \
broken entry:

| what was done to the file | what shows it |
| --- | --- |
| an entry was changed | its digest, the chain, a seal |
| an entry was removed, added or moved | its number, the chain |
| cut off at the end, or at the beginning | header and trailer count; rewritten to fit: the closing \
signature |
| the whole file made anew under another key, without one, or by another gateway \
| with `--root`: the certificate is missing, does not lead to the root, or is not that gateway's |
| entries removed from the gateway's own store before the export | only an older export, or a seal of \
one, that \
names them |
| a store put back to an older copy with its module | nothing in the log |

## Attacks

The system log is read as it grows, and what several entries together suggest is an entry of its own \
(`attack-suspected`) and an alarm, once in the rule's time. Patterns and numbers are own choice.

{rules}

## Operating states

![Causes and states](states.svg)

{states}

{causes}

What ends by an order outlasts a restart. Each change is logged, and each cause is an alarm for the \
administrator \
that waits until he has taken it.

## Vocabulary

{events}
"""


def page() -> str:
    """Return the whole of docs/logs.md."""
    return _PROSE.format(
        levels=", ".join(f"{level.value} {level.name.lower()}" for level in Level),
        outcomes=", ".join(f"{one.value} {one.name.lower()}" for one in Outcome),
        readers=_table(
            ("log", "roles"),
            [
                (
                    kind.value,
                    ", ".join(
                        sorted(role.value for role, acts in TABLE[resource].items() if Act.READ in acts)
                    )
                    + (", the own one alone" if kind is LogKind.CONSUMER else ""),
                )
                for kind, resource in LOGS.items()
            ],
        ),
        rules=_table(
            ("rule", "sees", "entries", "within", "counted"),
            [
                (
                    f"`{rule.name}`",
                    rule.text,
                    str(rule.count),
                    f"{int(rule.within.total_seconds()) // 3600} h",
                    "each subject apart" if rule.each_subject else "together",
                )
                for rule in RULES
            ],
        ),
        states=_table(
            ("state", "runs"),
            [
                (
                    state.name.lower(),
                    ", ".join(one.value for one in Function if one not in FORBIDDEN[state]) or "nothing",
                )
                for state in State
            ],
        ),
        causes=_table(
            ("cause", "state", "why", "goes on all the same", "ends by"),
            [
                (
                    cause.value,
                    rule.state.name.lower(),
                    rule.text,
                    ", ".join(one.value for one in Function if one in rule.spares),
                    f"{rule.remedy} ({rule.end.value})",
                )
                for cause, rule in CAUSES.items()
            ],
        ),
        events=_table(
            ("event", "means", "logs"),
            [
                (
                    f"`{event.value}`",
                    meaning.text + ("" if meaning.written else " (not written yet)"),
                    ", ".join(kind.value for kind in LogKind if kind in meaning.logs),
                )
                for event, meaning in MEANINGS.items()
            ],
        ),
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
