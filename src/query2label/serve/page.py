"""The web page: a few files of the package, held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request, Response

_FOLDER: Final = Path(__file__).resolve().parent / "static"
_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def add_page(app: FastAPI) -> frozenset[str]:
    """Adds the routes of the page; the paths that are given hold nothing about the model."""
    paths = set()
    for file in sorted(_FOLDER.iterdir()):
        path = "/" if file.name == "index.html" else f"/static/{file.name}"
        app.add_api_route(
            path,
            _sender(file.read_bytes(), _MEDIA_TYPES[file.suffix]),
            methods=["GET", "HEAD"],
            include_in_schema=False,
        )
        paths.add(path)
    return frozenset(paths)


def _sender(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'

    async def send(request: Request) -> Response:
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return send
