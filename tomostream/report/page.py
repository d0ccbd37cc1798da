"""One self-contained HTML page: no script, no style sheet or picture from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #eee; }
td:first-child, th:first-child { text-align: left; } tr.total td { font-weight: 600; border-top: 2px solid #888; }
img { max-width: 100%; height: auto; } pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: 13px; }
.key span { padding: 0 .5rem; border-radius: 3px; color: white; } .note { color: #555; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ summary }}</p>
{% for section in sections %}
<h2>{{ section.title }}</h2>
{% if section.text %}<p class="note">{{ section.text }}</p>{% endif %}
{% if section.rows %}
<table><thead><tr>{% for name in section.columns %}<th>{{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for row in section.rows %}<tr{% if row[0] == "pooled" %} class="total"{% endif %}>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
{% endif %}
{% for picture in section.pictures %}<p><img alt="{{ section.title }}" src="data:image/png;base64,{{ picture }}"></p>
{% endfor %}
{% if section.code %}<pre>{{ section.code }}</pre>{% endif %}
{% endfor %}
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: text, a table, pictures (PNG), preformatted text; empty parts are left out."""

    title: str
    text: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[bytes] = field(default=(), repr=False)
    code: str = ""


def render_page(title: str, summary: str, sections: Sequence[Section]) -> str:
    """Return the page as HTML; all text is escaped."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    values: list[Mapping[str, Any]] = [
        {
            "title": s.title,
            "text": s.text,
            "columns": s.columns,
            "rows": s.rows,
            "pictures": [base64.b64encode(p).decode() for p in s.pictures],
            "code": s.code,
        }
        for s in sections
    ]
    return environment.from_string(_TEMPLATE).render(title=title, summary=summary, sections=values)
