"""What every resource of a net has in common: numbers in the path, bounded bodies, answers of bytes."""

from __future__ import annotations

from typing import Final

from aiohttp import web

MAX_BODY_BYTES: Final = 1 << 16


def number(request: web.Request, name: str) -> int:
    """Return a number of the path; longer ones than any u32 are not found."""
    text = request.match_info[name]
    if len(text) > 10:
        raise web.HTTPNotFound
    return int(text)


async def body_of(request: web.Request) -> bytes:
    """Return the body; one that is too large is refused by its announcement."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, request.content_length or 0)
    return await request.read()


def answer(body: bytes | None) -> web.Response:
    """Answer with bytes; None is not found."""
    if body is None:
        raise web.HTTPNotFound
    return web.Response(body=body, content_type="application/octet-stream")
