"""Draws a DC-net for a terminal: key graph, who is absent, among how many each hides, slots. No I/O.

Small nets show the key graph itself, one row a member; of large ones a row would not fit, so the members
stand in a grid with the number of their keys.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from rich.text import Text

MATRIX_UP_TO: Final = 32
_A_ROW: Final = 16
_SLOT_MARKS: Final = {
    "totalled": ("█", "green"),
    "settled": ("▒", "green"),
    "owed": ("○", "yellow"),
    "measured": ("·", "cyan"),
    "submitted": ("▂", "cyan"),
    "accepted": ("▃", "cyan"),
    "opened": ("▅", "cyan"),
}


def view(net: dict[str, Any]) -> Text:
    """Return what a terminal shows of one net."""
    text = Text()
    text.append(f"net {net['net']}", style="bold")
    text.append(f"  {net['profile']} for {net['supplier']}\n")
    text.append(f"this gateway  {net['state']}\n")
    if net.get("insecure_small_net"):
        text.append("insecure small net: hides nobody\n", style="red")
    roster = net.get("roster")
    if not roster:
        text.append("no roster yet\n")
    else:
        _members(text, net, roster)
    _slots(text, net.get("slots") or [])
    _faults(text, net)
    _terms(text, net)
    for one in net.get("owed") or []:
        span = f"slots {one['first_slot']} to {one['last_slot']}"
        text.append(f"owed  {span}: import {one['import_wh']} Wh, export {one['export_wh']} Wh")
        text.append(f" ({one['reason']})\n")
    return text


def _faults(text: Text, net: dict[str, Any]) -> None:
    if "mode" not in net:
        return
    text.append("mode  ")
    text.append(net["mode"], style="red" if net["mode"].startswith("F") else "green")
    period = f"every {net['reconcile_slots']} slots" if net["reconcile_slots"] else "never"
    text.append(f", recovery {net['recovery']}, what is owed is added up {period}\n")
    if net["last_audit"]:
        text.append(f"last audit  slot {net['last_audit']['slot']}\n")
    if ordered := net.get("v_mode"):
        span = f"slots {ordered['first_slot']} to {ordered['last_slot']}"
        text.append(f"V-mode last ordered  {span}: {ordered['reason']}\n")
    if net["recovered"]:
        slots = ", ".join(str(one["slot"]) for one in net["recovered"][-8:])
        text.append(f"shares given  slots {slots}\n")


def _terms(text: Text, net: dict[str, Any]) -> None:
    """What the administrator has ordered: how long the register is this net's, and who was withdrawn."""
    span = [
        f"{word} {net[key]}" for word, key in (("from", "from_utc"), ("until", "until_utc")) if net.get(key)
    ]
    if span:
        text.append(f"the register is this net's  {' '.join(span)}\n")
    if net.get("withdrawn_list"):
        listed = ", ".join(map(str, net["withdrawn"])) or "nobody of this roster"
        text.append(f"withdrawn by the administrator  {listed} (list {net['withdrawn_list']})\n")


def _members(text: Text, net: dict[str, Any], roster: dict[str, Any]) -> None:
    members = roster["members"]
    absent = [member["index"] for member in members if member["absent"]]
    own = next((member for member in members if member["index"] == roster["own"]), None)
    seen = bool(net["last"] and net["last"]["accepted_known"])
    when = f"slot {net['last']['slot']}" if seen else "expected next"
    text.append(f"{when}  {len(members) - len(absent)} of {len(members)} members, ")
    text.append(f"{len(roster['edges'])} keys; ")
    text.append(f"hidden among {own['anonymity_set'] if own else 0}", style="bold")
    text.append(f", at least {net['n_min']} required\n")
    sets = Counter(member["anonymity_set"] for member in members if not member["absent"])
    if len(sets) > 1:
        groups = ", ".join(f"{count} members among {size}" for size, count in sorted(sets.items()))
        text.append(f"anonymity sets  {groups}\n", style="red")
    _cells(text, roster)
    text.append(f"absent  {', '.join(map(str, absent)) or 'nobody'}\n")
    (_matrix if len(members) <= MATRIX_UP_TO else _grid)(text, roster)


def _cells(text: Text, roster: dict[str, Any]) -> None:
    """The joint that has lost most, and every joint that does not hold."""
    if not (joints := roster.get("joints")):
        return
    weakest = min(joints, key=lambda one: one["left"])
    text.append(f"cells  {roster['cells']} in a circle; fewest bridges left {weakest['left']} ")
    text.append(f"of {weakest['bridges']}, {weakest['needed']} needed\n")
    for one in joints:
        if one["left"] < one["needed"]:
            near, far = one["cells"]
            text.append(f"cells {near} and {far} do not count as joined\n", style="red")


def _mark(member: dict[str, Any], own: int) -> tuple[str, str]:
    if member["absent"]:
        return "○", "red"
    return ("◆", "yellow") if member["index"] == own else ("●", "blue")


def _matrix(text: Text, roster: dict[str, Any]) -> None:
    """One row a member: its keys, the size of its anonymity set."""
    members, own = roster["members"], roster["own"]
    edges = {frozenset(edge) for edge in roster["edges"]}
    away = {member["index"] for member in members if member["absent"]}
    text.append("\n        " + "".join(f"{one['index'] % 100:>3}" for one in members) + "   hidden among\n")
    for row in members:
        mark, style = _mark(row, own)
        text.append(f"  {row['index']:>4} ")
        text.append(mark, style=style)
        for column in members:
            pair = {row["index"], column["index"]}
            if len(pair) == 1:
                text.append("  ╲", style="dim")
            elif frozenset(pair) not in edges:
                text.append("   ")
            elif pair & away:
                text.append("  ┄", style="red")
            else:
                text.append("  ■", style="yellow" if own in pair else "blue")
        text.append(f"   {row['anonymity_set'] or 'absent'}\n")
    text.append(
        "  ◆ this gateway  ● took part  ○ absent  ■ shared key  ┄ key of somebody absent\n", style="dim"
    )


def _grid(text: Text, roster: dict[str, Any]) -> None:
    members, own = roster["members"], roster["own"]
    text.append("\n")
    for at in range(0, len(members), _A_ROW):
        row = members[at : at + _A_ROW]
        text.append(f"  {row[0]['index']:>5} ")
        for member in row:
            mark, style = _mark(member, own)
            text.append(f" {mark}", style=style)
            text.append(f"{member['neighbours']:<2}", style="dim")
        text.append("\n")
    text.append("  ◆ this gateway  ● took part  ○ absent; the number: shared keys\n", style="dim")


def _slots(text: Text, slots: list[dict[str, Any]]) -> None:
    if not slots:
        return
    text.append(f"\nslots {slots[0]['slot']} to {slots[-1]['slot']}  ")
    for one in slots:
        mark, style = _SLOT_MARKS.get(one["state"], ("×", "red"))
        text.append(mark, style=style)
    counts = Counter(one["state"] for one in slots)
    said = ", ".join(
        f"{_SLOT_MARKS.get(state, ('×', ''))[0]} {count} {state}" for state, count in sorted(counts.items())
    )
    text.append(f"\n  {said}\n", style="dim")
