"""`GET /`: the page for a person with a browser, one file that asks this server and nothing else.

Its Content-Security-Policy names its script and its style by their hashes, so nothing that an answer or an error
could bring into the page ever runs, and no address but our own can be asked.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

from fastapi import APIRouter, Request, Response

router = APIRouter()

_PAGE = resources.files(__name__).joinpath("index.html").read_bytes()


def _hashes(tag: bytes) -> str:
    """Source expressions for what stands between each pair of these tags."""
    contents = re.findall(rb"<%b\b[^>]*>(.*?)</%b>" % (tag, tag), _PAGE, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(content).digest()).decode() for content in contents]
    return " ".join(f"'sha256-{digest}'" for digest in digests)


_POLICY = "; ".join(
    [
        "default-src 'none'",
        f"script-src {_hashes(b'script')}",
        f"style-src {_hashes(b'style')}",
        "img-src data:",  # its icon
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # text that is assigned as HTML is an error,
        "trusted-types 'none'",  # and there is no way around
    ]
)
_HEADERS = {
    "cache-control": "no-cache",  # keep it, but ask: the page and the API it speaks to change together
    "etag": f'"{hashlib.sha256(_PAGE).hexdigest()[:20]}"',
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    if request.headers.get("if-none-match") == _HEADERS["etag"]:
        return Response(status_code=304, headers=_HEADERS)
    return Response(_PAGE, media_type="text/html", headers=_HEADERS)
