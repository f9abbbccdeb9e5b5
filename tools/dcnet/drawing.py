"""Draws DC-nets, as a running gateway tells them, as one SVG. No I/O.

A ring of members with their keys as chords, beside it who is there, among how many each hides, and the
newest slots. Colours never stand alone: absent members are hollow with a cross, the own one
has a second ring.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import cos, pi, sin
from typing import Any, Final
from xml.sax.saxutils import escape

WIDTH: Final = 1000
HEIGHT: Final = 680
_CENTRE: Final = 330
_RADIUS: Final = 270
_SIDE: Final = 670
_FONT: Final = 'font-family="system-ui, sans-serif"'
_THERE: Final = "#1f77b4"
_AWAY: Final = "#c0392b"
_OWN: Final = "#e6a100"
_BRIDGE: Final = "#2e8b57"
_SLOT_COLOURS: Final = {
    "totalled": "#2e8b57",
    "settled": "#8fc9a8",
    "measured": "#b9c6d3",
    "submitted": "#7fa8d1",
    "accepted": "#4f86c1",
    "opened": "#1f77b4",
    "owed": "#e6a100",
}
_OTHER_SLOT: Final = "#c0392b"
_A_ROW: Final = 24


def draw(nets: Sequence[dict[str, Any]]) -> str:
    """Return one SVG document with every net below the one before."""
    height = HEIGHT * max(1, len(nets))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for number, net in enumerate(nets):
        parts.append(f'<g transform="translate(0 {number * HEIGHT})" {_FONT}>')
        parts += _ring(net) if net.get("roster") else _nothing(net)
        parts += _side(net)
        parts.append("</g>")
    if not nets:
        parts.append(_text(40, 60, "this gateway is in no net", 20))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ring(net: dict[str, Any]) -> list[str]:
    """Draw members and keys."""
    roster = net["roster"]
    members = roster["members"]
    count = len(members)
    places = {}
    for number, member in enumerate(sorted(members, key=lambda one: (one.get("cell", 0), one["index"]))):
        angle = 2 * pi * number / count - pi / 2
        places[member["index"]] = (_CENTRE + _RADIUS * cos(angle), _CENTRE + _RADIUS * sin(angle))
    absent = {member["index"] for member in members if member["absent"]}
    own = roster["own"]
    # Many chords must not become one grey disc: the more there are, the thinner and fainter each.
    faint = max(0.12, min(0.5, 120 / max(1, len(roster["edges"]))))
    thin = 0.6 if count > 64 else 1.0
    drawn: dict[str, list[str]] = {"there": [], "bridge": [], "away": [], "own": []}
    cell_of = {member["index"]: member.get("cell", 0) for member in members}
    for low, high in roster["edges"]:
        within = "there" if cell_of[low] == cell_of[high] else "bridge"
        kind = "away" if {low, high} & absent else "own" if own in (low, high) else within
        (x1, y1), (x2, y2) = places[low], places[high]
        drawn[kind].append(f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}")
    looks = {
        "away": f'stroke="{_AWAY}" stroke-opacity="{faint:.2f}" stroke-width="{thin}" stroke-dasharray="4 4"',
        "there": f'stroke="{_THERE}" stroke-opacity="{faint:.2f}" stroke-width="{thin}"',
        "bridge": f'stroke="{_BRIDGE}" stroke-opacity="0.9" stroke-width="{thin + 0.3}"',
        "own": f'stroke="{_OWN}" stroke-opacity="0.85" stroke-width="{thin + 0.6}"',
    }
    found = [
        f'<path fill="none" {looks[kind]} d="{"".join(drawn[kind])}"/>'
        for kind in ("away", "there", "bridge", "own")
        if drawn[kind]
    ]
    size = max(3.5, min(26.0, 0.36 * 2 * pi * _RADIUS / count))
    for member in members:
        found += _member(member, places[member["index"]], size, own=member["index"] == own)
    return found


def _member(member: dict[str, Any], place: tuple[float, float], size: float, *, own: bool) -> list[str]:
    x, y = place
    index = member["index"]
    said = "absent" if member["absent"] else f"hidden among {member['anonymity_set']}"
    title = f"member {index}: {member['neighbours']} neighbours, {said}"
    colour = _OWN if own else _THERE
    found = [f"<g><title>{title}</title>"]
    if own:
        found.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size + 3.5:.1f}" fill="none" stroke="{_OWN}" '
            'stroke-width="2"/>'
        )
    fill, line = ("#ffffff", _AWAY) if member["absent"] else (colour, "#ffffff")
    found.append(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" fill="{fill}" stroke="{line}" stroke-width="1.5"/>'
    )
    if member["absent"]:
        arm = size * 0.6
        found.append(
            f'<path d="M{x - arm:.1f} {y - arm:.1f}l{2 * arm:.1f} {2 * arm:.1f}'
            f'm0 {-2 * arm:.1f}l{-2 * arm:.1f} {2 * arm:.1f}" stroke="{_AWAY}" stroke-width="1.5" '
            'stroke-opacity="0.5"/>'
        )
    inside = size >= 9
    if inside or own or member["absent"] or index % 10 == 0:
        out = 1 if inside else (_RADIUS + size + 14) / _RADIUS
        at_x, at_y = _CENTRE + (x - _CENTRE) * out, _CENTRE + (y - _CENTRE) * out
        ink = "#ffffff" if inside and not member["absent"] else "#333333"
        points = min(18.0, size * 0.95) if inside else 11.0
        found.append(_text(at_x, at_y + points / 3, str(index), points, ink, "middle"))
    found.append("</g>")
    return found


def _side(net: dict[str, Any]) -> list[str]:
    """Draw what is beside the ring."""
    found = [
        _text(_SIDE, 50, f"net {net['net']}", 22, "#111111"),
        _text(_SIDE, 74, f"{net['profile']} for {net['supplier']}", 14, "#555555"),
        _text(_SIDE, 98, f"this gateway: {net['state']}", 14, "#111111"),
    ]
    roster = net.get("roster")
    if roster:
        found += _people(net, roster)
    if net.get("insecure_small_net"):
        found.append(_text(_SIDE, 122, "insecure small net: hides nobody", 14, _AWAY))
    slots = net.get("slots") or []
    if slots:
        top = 430
        found.append(_text(_SIDE, top, f"slots {slots[0]['slot']} to {slots[-1]['slot']}", 14, "#111111"))
        for number, one in enumerate(slots):
            x, y = _SIDE + 12 * (number % _A_ROW), top + 12 + 16 * (number // _A_ROW)
            colour = _SLOT_COLOURS.get(one["state"], _OTHER_SLOT)
            title = escape(f"slot {one['slot']}: {one['state']} {one['reason']}".strip())
            found.append(
                f'<rect x="{x}" y="{y}" width="10" height="14" rx="2" fill="{colour}"><title>{title}</title>'
                "</rect>"
            )
        seen = Counter(one["state"] for one in slots)
        for number, (state, count) in enumerate(sorted(seen.items())):
            y = top + 26 + 16 * ((len(slots) - 1) // _A_ROW + 1) + 18 * number
            found.append(
                f'<rect x="{_SIDE}" y="{y - 9}" width="10" height="10" rx="2" '
                f'fill="{_SLOT_COLOURS.get(state, _OTHER_SLOT)}"/>'
            )
            found.append(_text(_SIDE + 16, y, f"{count} {state}", 13, "#333333"))
    return found


def _people(net: dict[str, Any], roster: dict[str, Any]) -> list[str]:
    members = roster["members"]
    there = [member for member in members if not member["absent"]]
    own = next((member for member in members if member["index"] == roster["own"]), None)
    hidden = own["anonymity_set"] if own is not None else 0
    sets = Counter(member["anonymity_set"] for member in there)
    lines = [
        ("hidden among", "", 14, "#555555"),
        (str(hidden), "", 54, "#111111"),
        (f"households; at least {net['n_min']} are required", "", 13, "#555555"),
        (f"{len(there)} of {len(members)} took part", "", 16, "#111111"),
        (
            f"{len(roster['edges'])} keys, this gateway has {own['neighbours'] if own else 0}",
            "",
            14,
            "#333333",
        ),
    ]
    if joints := roster.get("joints"):
        apart = sum(one["left"] < one["needed"] for one in joints)
        said = f"{apart} joints do not hold" if apart else "all joints hold"
        lines.append((f"{roster['cells']} cells with bridges, {said}", "", 13, _AWAY if apart else _BRIDGE))
    found, y = [], 150
    for text, _, points, ink in lines:
        y += max(20, int(points * 0.95))
        found.append(_text(_SIDE, y, text, points, ink))
    if len(sets) > 1:
        y += 20
        groups = ", ".join(f"{size} ({count} members)" for size, count in sorted(sets.items(), reverse=True))
        found.append(_text(_SIDE, y, f"anonymity sets: {groups}", 13, _AWAY))
    y += 26
    if not _known(net):
        found.append(_text(_SIDE, y, "last slot not seen yet: who is expected next", 13, "#555555"))
    else:
        found.append(_text(_SIDE, y, f"in slot {net['last']['slot']}", 13, "#555555"))
    for mark, text in ((_OWN, "this gateway"), (_THERE, "took part")):
        y += 24
        found.append(f'<circle cx="{_SIDE + 7}" cy="{y - 5}" r="7" fill="{mark}"/>')
        found.append(_text(_SIDE + 22, y, text, 13, "#333333"))
    y += 24
    found.append(
        f'<circle cx="{_SIDE + 7}" cy="{y - 5}" r="6" fill="#ffffff" stroke="{_AWAY}" stroke-width="1.5"/>'
    )
    found.append(_text(_SIDE + 22, y, "absent", 13, "#333333"))
    return found


def _known(net: dict[str, Any]) -> bool:
    return bool(net.get("last") and net["last"]["accepted_known"])


def _nothing(net: dict[str, Any]) -> list[str]:
    return [_text(60, _CENTRE, f"no roster yet: {net['state']}", 20, "#555555")]


def _text(x: float, y: float, text: str, points: float, ink: str = "#111111", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{points:.1f}" fill="{ink}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
