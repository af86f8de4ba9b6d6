"""GraphiQL: a page to try the API on, which the package's build has made from ``graphql_api/web``.

It holds no secret and asks nobody but this server, which its content security policy enforces.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

DIST = Path(__file__).parents[1] / "web" / "dist"

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", re.ASCII)
#: A name or an address, perhaps with a port: what a policy may be told, since the guard has looked at the name alone.
_HOST = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?", re.ASCII)
_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; "
    "style-src 'self' 'unsafe-inline'; "  # the editor writes its colours into the page
    "font-src 'self' data:; img-src 'self' data:; connect-src {sources}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".ttf": "font/ttf"}
_FOR_EVER = "public, max-age=31536000, immutable"  # a file's name changes with its content
_NOT_BUILT = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">
<title>stackcast GraphiQL</title>
<style>body { font: 1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 15vh auto; padding: 0 1.5rem }</style>
<h1>GraphiQL has not been built</h1>
<p>It is built when the package is, which needs <b>Node 20.19</b> or newer, with npm on <code>PATH</code>. Then run</p>
<pre>uv sync --reinstall-package stackcast --verbose</pre>
<p>which says what is missing if there is still no page, and load this one again. The API works without it.</p>
"""


class GraphiQL:
    """The page and what it loads, from a directory of compressed files; without them a page that says what to run.

    Both are asked for in threads, since they look into the directory.
    """

    def __init__(self, directory: Path = DIST) -> None:
        self._directory = directory

    def page(self, request: Request) -> Response:
        """The page, which is to be asked for each time; 503 when it has not been built."""
        file = self._directory / "index.html.gz"
        if not file.is_file():
            return HTMLResponse(_NOT_BUILT, 503, _headers(request, "no-store"))
        return _answer(request, file, "text/html", "no-cache")

    def asset(self, request: Request) -> Response:
        """What the page loads, to be kept for ever."""
        name = request.path_params["name"]
        file = self._directory / "graphiql" / f"{name}.gz"
        if not _NAME.fullmatch(name) or not file.is_file():
            raise HTTPException(404)
        return _answer(request, file, _MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream"), _FOR_EVER)


def _answer(request: Request, file: Path, media_type: str, caching: str) -> Response:
    headers = {**_headers(request, caching), "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return FileResponse(file, headers={**headers, "Content-Encoding": "gzip"}, media_type=media_type)
    return Response(gzip.decompress(file.read_bytes()), headers=headers, media_type=media_type)


def _headers(request: Request, caching: str) -> dict[str, str]:
    host = request.headers.get("host", "")
    # Not every browser takes 'self' for the socket as well. A page that came over TLS can't use the first of the two.
    sources = f"'self' ws://{host} wss://{host}" if _HOST.fullmatch(host) else "'self'"
    return {
        "Cache-Control": caching,
        "Content-Security-Policy": _POLICY.format(sources=sources),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
