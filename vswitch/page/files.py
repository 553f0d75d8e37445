"""The files of the page, answered at `/` and `/page/NAME`.

    routes.add_table(PageFiles().find)

Invariants: only what lies in `static` is answered, as it was at the start; no path that a client
says is ever a path on the disk. The headers let a browser load nothing from elsewhere, run nothing
that stands in the page itself, and show the page inside no other one.

Error contract: `OSError` where the files cannot be read; what is not there is for others to answer.
"""

from __future__ import annotations

from functools import partial
from hashlib import blake2b
from importlib.resources import files
from typing import Final

import attrs

from vswitch.web.requests import Handler, Request, Response

_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"  # text is never taken for markup
)
_HEADERS: Final = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-cache"),  # kept, but asked for: after an upgrade nobody has the old one
)


@attrs.frozen
class _File:
    body: bytes = attrs.field(repr=False)
    kind: str
    etag: str


class PageFiles:
    """All of them, read now."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}  # by the path at which they are asked for
        for each in (files(__package__) / "static").iterdir():
            kind = _KINDS.get(f".{each.name.rpartition('.')[2]}")
            if kind is not None:
                body = each.read_bytes()
                etag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
                path = "/" if each.name == "index.html" else f"/page/{each.name}"
                self._files[path] = _File(body, kind, etag)

    def find(self, request: Request) -> Handler | None:
        """Who answers with a file."""
        if request.method not in ("GET", "HEAD"):
            return None
        file = self._files.get(request.path)
        return None if file is None else partial(_answer, file)


async def _answer(file: _File, request: Request) -> Response:
    headers = [("Content-Type", file.kind), ("ETag", file.etag), *_HEADERS]
    if request.headers.get("if-none-match") == file.etag:
        return Response(304, b"", headers[1:])
    return Response(200, file.body, headers)
