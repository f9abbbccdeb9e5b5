"""Draws docs/parts.svg, the README's picture, from docs/parts.toml. Text in, text out."""

from __future__ import annotations

import tomllib
from enum import Enum
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

import msgspec

from tools.docs.model import ModelRefused


class BoxKind(Enum):
    """How a box is painted."""

    ZONE = "zone"
    PART = "part"
    KEY = "key"
    PEER = "peer"


class Side(Enum):
    """Where an arrow touches a box."""

    LEFT = "left"
    RIGHT = "right"
    TOP = "top"
    BOTTOM = "bottom"


class Box(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rectangle with a title and lines of text; lengths in pixels."""

    id: str
    title: str
    kind: BoxKind
    x: int
    y: int
    w: int
    h: int
    lines: list[str] = []


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An arrow; `at` moves both ends along their sides (0 = corner, 1 = opposite corner)."""

    source: str
    target: str
    leave: Side
    enter: Side
    label: str = ""
    at: float = 0.5
    to: float | None = None
    both: bool = False


class Picture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    title: str
    width: int
    height: int
    box: list[Box]
    link: list[Link]


_PAINT: Final = {
    BoxKind.ZONE: ("#f6f8fa", "#8c959f", "5 4"),
    BoxKind.PART: ("#ffffff", "#57606a", "none"),
    BoxKind.KEY: ("#fff3cd", "#9a6700", "none"),
    BoxKind.PEER: ("#ddf4ff", "#0969da", "none"),
}
_LINE_PX: Final = 15
_HEAD: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img"'
    ' font-family="Helvetica, Arial, sans-serif" fill="#1f2328">'
)
_MARKER: Final = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
    ' orient="auto-start-reverse">'
    '<path d="M0 0 8 4 0 8z" fill="#57606a"/></marker></defs>'
)


def load(path: Path) -> Picture:
    """Read a picture.

    Raises:
        ModelRefused: it has not the form of `Picture`, or an arrow ends at a box that is not there.
    """
    try:
        picture = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Picture)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ModelRefused([f"{path.name}: {error}"]) from error
    boxes = {box.id for box in picture.box}
    faults = [
        f"arrow ends at unknown box {end}"
        for link in picture.link
        for end in (link.source, link.target)
        if end not in boxes
    ]
    if faults:
        raise ModelRefused(faults)
    return picture


def draw(picture: Picture) -> str:
    """Return the picture as SVG."""
    boxes = {box.id: box for box in picture.box}
    lines = [
        _HEAD.format(w=picture.width, h=picture.height),
        f"<title>{escape(picture.title)}</title>",
        _MARKER,
        f'<rect width="{picture.width}" height="{picture.height}" fill="#ffffff"/>',
    ]
    for box in picture.box:
        lines += _box(box)
    for link in picture.link:
        lines += _link(link, boxes)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _box(box: Box) -> list[str]:
    fill, stroke, dash = _PAINT[box.kind]
    left, top = box.x + 10, box.y + 19
    shape = f'<rect x="{box.x}" y="{box.y}" width="{box.w}" height="{box.h}" rx="6"'
    lines = [
        f'{shape} fill="{fill}" stroke="{stroke}" stroke-width="1.5" stroke-dasharray="{dash}"/>',
        f'<text x="{left}" y="{top}" font-size="13" font-weight="bold">{escape(box.title)}</text>',
    ]
    for number, text in enumerate(box.lines, 1):
        lines.append(f'<text x="{left}" y="{top + number * _LINE_PX}" font-size="11.5">{escape(text)}</text>')
    return lines


def _link(link: Link, boxes: dict[str, Box]) -> list[str]:
    x1, y1 = _point(boxes[link.source], link.leave, link.at)
    x2, y2 = _point(boxes[link.target], link.enter, link.at if link.to is None else link.to)
    start = ' marker-start="url(#tip)"' if link.both else ""
    path = f'<path d="M{x1} {y1} L{x2} {y2}" stroke="#57606a" stroke-width="1.5" fill="none"'
    line = f'{path} marker-end="url(#tip)"{start}/>'
    if not link.label:
        return [line]
    place = f'x="{(x1 + x2) / 2:g}" y="{(y1 + y2) / 2 - 6:g}" text-anchor="middle"'
    if x1 == x2:  # beside a vertical arrow
        place = f'x="{x1 + 8:g}" y="{(y1 + y2) / 2 + 4:g}"'
    return [line, f'<text {place} font-size="11">{escape(link.label)}</text>']


def _point(box: Box, side: Side, at: float) -> tuple[float, float]:
    if side in (Side.LEFT, Side.RIGHT):
        return box.x + (box.w if side is Side.RIGHT else 0), round(box.y + box.h * at, 1)
    return round(box.x + box.w * at, 1), box.y + (box.h if side is Side.BOTTOM else 0)
