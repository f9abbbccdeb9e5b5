"""Draws docs/states.svg from the table that the gateway's code uses. Text out."""

from __future__ import annotations

from typing import Final
from xml.sax.saxutils import escape

from firmware.life.states import CAUSES, FORBIDDEN, Cause, End, Function, State

_WIDTH, _ROW, _GAP, _TOP = 960, 44, 18, 50
_LEFT, _NORMAL_W, _BOX_X, _BOX_W = 20, 150, 690, 250
_FILL: Final = {
    State.MEASUREMENT: "#fff8c5",
    State.CONNECTIVITY: "#fff1e5",
    State.APPLICATION: "#ffebe9",
    State.BOOT: "#ffcecb",
    State.DECOMMISSIONED: "#d0d7de",
}
_BACK: Final = {
    End.ITSELF: ("#1a7f37", "none"),
    End.ORDER: ("#8250df", "none"),
    End.START: ("#57606a", "5 4"),
}
_HEAD: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img"'
    ' font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#1f2328">'
)
_MARKER: Final = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
    ' orient="auto"><path d="M0 0 8 4 0 8z" fill="#57606a"/></marker></defs>'
)


def draw() -> str:
    """Return the picture: normal state on the left, what leads away from it and back, the other states."""
    bands: list[str] = []
    y = _TOP
    for state in list(State)[1:]:
        causes = [cause for cause, rule in CAUSES.items() if rule.state is state]
        height = _ROW * len(causes)
        bands += _state(state, y, height)
        for row, cause in enumerate(causes):
            bands += _arrows(cause, y + row * _ROW)
        y += height + _GAP
    height = y + 30
    lines = [
        _HEAD.format(w=_WIDTH, h=height),
        "<title>Operating states of the gateway, and what leads into and out of them</title>",
        _MARKER,
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="28" font-size="15" font-weight="bold">Operating states</text>',
        _box(_LEFT, _TOP, _NORMAL_W, y - _GAP - _TOP, "#dafbe1"),
        _text(_LEFT + 12, _TOP + 24, "normal", bold=True),
        _text(_LEFT + 12, _TOP + 42, "everything runs"),
        *bands,
        _legend(y + 12),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _state(state: State, y: int, height: int) -> list[str]:
    forbidden = [function.value for function in Function if function in FORBIDDEN[state]]
    runs = [function.value for function in Function if function.value not in forbidden]
    words = "marks values" if not forbidden else f"runs: {', '.join(runs) or 'nothing'}"
    return [
        _box(_BOX_X, y, _BOX_W, height - 4, _FILL[state]),
        _text(_BOX_X + 12, y + 17, state.name.lower(), bold=True),
        _text(_BOX_X + 12, y + 33, words),
    ]


def _arrows(cause: Cause, y: int) -> list[str]:
    rule = CAUSES[cause]
    start, end = _LEFT + _NORMAL_W, _BOX_X
    lines = [_line(start, y + 16, end, y + 16, "#57606a", "none"), _text(start + 14, y + 12, rule.text)]
    if rule.end in _BACK:
        colour, dash = _BACK[rule.end]
        lines += [
            _line(end, y + 34, start, y + 34, colour, dash),
            _text(start + 14, y + 30, rule.remedy, colour=colour),
        ]
    return lines


def _legend(y: int) -> str:
    words = {End.ITSELF: "back by itself", End.ORDER: "by the administrator's order", End.START: "by a start"}
    x, found = _LEFT, []
    for end, text in words.items():
        found += [_line(x, y, x + 36, y, *_BACK[end]), _text(x + 44, y + 4, text)]
        x += 220
    return "\n".join(found)


def _box(x: int, y: int, w: int, h: int, fill: str) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="6" fill="{fill}" stroke="#57606a"'
        ' stroke-width="1.2"/>'
    )


def _line(x1: int, y1: int, x2: int, y2: int, colour: str, dash: str) -> str:
    return (
        f'<path d="M{x1} {y1} L{x2} {y2}" stroke="{colour}" stroke-width="1.3" stroke-dasharray="{dash}"'
        ' fill="none" marker-end="url(#tip)"/>'
    )


def _text(x: int, y: int, text: str, *, bold: bool = False, colour: str = "#1f2328") -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" fill="{colour}"{weight}>{escape(text)}</text>'
