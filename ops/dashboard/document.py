"""The page as it is served: one document, and the headers under which nothing else runs in it."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_STYLE: Final = "<!-- style -->"
_SCRIPT: Final = "<!-- script -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The HTML, and its security headers by name."""

    html: str
    headers: dict[str, str]


@cache
def document() -> Document:
    """Return the page; read from the package on the first call.

    The policy names the hashes of its own style and script, so an injected script does not run. The
    page may call only the app that served it.
    """
    style, script = _text("page.css"), _text("page.js")
    html = _text("page.html")
    html = html.replace(_STYLE, f"<style>{style}</style>")
    html = html.replace(_SCRIPT, f'<script type="module">{script}</script>')
    policy = (
        "default-src 'none'",
        f"style-src {_hash(style)}",
        f"script-src {_hash(script)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return Document(
        html=html,
        headers={
            "Cache-Control": "no-cache",
            "Content-Security-Policy": "; ".join(policy),
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
