"""What gateways say to a counterpart, request by request, in a file: the raw material of a record.

JSON lines {"t_utc", "from", "to", "method", "path", "hex", "status", "answer"}: `from` is the gateway that
TLS has identified, `hex` the body it sent. Answers are kept for DC-nets alone; what an administrator hands
out holds keys of meters, which belong in no file. A question without a body that was not answered well is
not written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from tools.counterparts.server import gateway_of, peer_common_name

_NETS: Final = "/dcnet/v1/"


def recording(path: Path, to: str, now_utc: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Any:
    """Return a middleware that appends each gateway's requests to `path`; `to` is this counterpart's name."""

    @web.middleware
    async def record(request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        gateway = gateway_of(peer_common_name(request))
        body = await request.read()
        status, answer = 500, b""
        try:
            response: web.StreamResponse = await handler(request)
            status = response.status
            if isinstance(response, web.Response) and isinstance(response.body, bytes):
                answer = response.body if request.path.startswith(_NETS) else b""
            return response
        except web.HTTPException as refused:
            status = refused.status
            raise
        finally:
            if gateway is not None and (body or status == web.HTTPOk.status_code):
                line = {
                    "t_utc": now_utc().isoformat(),
                    "from": gateway,
                    "to": to,
                    "method": request.method,
                    "path": request.path,
                    "hex": body.hex(),
                    "status": status,
                    "answer": answer.hex(),
                }
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line, separators=(",", ":")) + "\n")

    return record
