"""Render a report's page: data, style and script in one HTML file that makes no network request.

Untrusted text is confined to one block of JSON, which the page's script shows as text. The content
security policy allows only that script, and no requests. Knows nothing of results. jinja2, of the
extra `report`, is imported only when it is used.
"""

import base64
import hashlib
import json
from importlib import resources
from typing import Any

from vidground.errors import InputError

MARK = '<meta name="generator" content="vidground report">'
"""Near the start of every report, which identifies it."""

_STYLE = ("report.css",)
_SCRIPTS = ("report_data.js", "report_timeline.js", "report_player.js", "report_list.js")
_SCRIPT_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def render_page(data: Any, *, title: str) -> str:
    """Return the page as HTML; the data in it is pure ASCII.

    Args:
        data: see `report_data.encode_entry`.
        title: of the page.

    Raises:
        InputError: jinja2 cannot be imported.
    """
    require_jinja()
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style, script = _read(*_STYLE), _read(*_SCRIPTS)
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_read("report.html.j2")).render(
        title=title,
        policy=_policy(style, script),
        # Our own text, or already escaped.
        mark=Markup(MARK),
        style=Markup(style),
        script=Markup(script),
        data=Markup(to_island(data)),
    )


def to_island(data: Any) -> str:
    """Return `data` as JSON that no HTML parser can read as markup, whatever its strings hold.

    Everything that could end or nest a script element (`</script>`, `<!--`) is escaped, and so are
    all characters outside ASCII.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.translate(_SCRIPT_ESCAPES)


def require_jinja() -> None:
    """Check that jinja2 is installed.

    Raises:
        InputError: it cannot be imported.
    """
    try:
        import jinja2  # noqa: F401 - checks only that it can be imported
    except ImportError as error:
        raise InputError(
            f"reports need the package jinja2 ({error}): pip install 'vidground[report]'"
        ) from error


def _read(*names: str) -> str:
    folder = resources.files("vidground.review") / "templates"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def _policy(style: str, script: str) -> str:
    """Allow this style and script, embedded pictures and local videos; nothing else."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "img-src data:",
            "media-src 'self' file: blob:",
            "connect-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
