"""The page of a report: data, style and program in one HTML file that asks nothing of a network.

What is untrusted is in one block of JSON, which the page's own program shows as text. The page's
policy lets that program run, no other, and no request leave. Knows nothing of results. jinja2, of
the extra `report`, is imported only when it is used.
"""

import base64
import hashlib
import json
from importlib import resources
from typing import Any

from vidground.errors import InputError

MARK = '<meta name="generator" content="vidground report">'
"""Stands near the start of every report, so that it is known as one."""

_STYLE = ("report.css",)
_PROGRAM = ("report_data.js", "report_timeline.js", "report_player.js", "report_list.js")
_FOR_SCRIPTS = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def render_page(data: Any, *, title: str) -> str:
    """Return the page as HTML, pure ASCII but for the title and the page's own texts.

    data: see `report_data.encode_entry`.

    Raises:
        InputError: jinja2 cannot be imported.
    """
    require_jinja()
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style, program = _read(*_STYLE), _read(*_PROGRAM)
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_read("report.html.j2")).render(
        title=title,
        policy=_policy(style, program),
        # Our own text, or escaped already.
        mark=Markup(MARK),
        style=Markup(style),
        program=Markup(program),
        data=Markup(to_island(data)),
    )


def to_island(data: Any) -> str:
    """Return `data` as JSON that no HTML parser can take for markup, whatever its strings hold.

    All that could end or nest a script element (`</script>`, `<!--`) is written as escapes, and
    so is everything that is not ASCII.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.translate(_FOR_SCRIPTS)


def require_jinja() -> None:
    """Raise InputError if jinja2 cannot be imported."""
    try:
        import jinja2  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise InputError(
            f"reports need the package jinja2 ({error}): pip install 'vidground[report]'"
        ) from error


def _read(*names: str) -> str:
    folder = resources.files("vidground.review") / "templates"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def _policy(style: str, program: str) -> str:
    """What the page may load: this style, this program, pictures inside of it, local videos."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(program)}'",
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
