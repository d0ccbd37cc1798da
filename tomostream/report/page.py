"""Write the report as one self-contained HTML file: the built page, with the results embedded as JSON.

The overview is one JSON block.  The slices, positions and gallery of each tomogram are a block of their own, parsed only when the
tomogram is opened, so that the page opens fast whatever the number of tomograms.
"""

from __future__ import annotations

import functools
import html
import importlib.resources
import json
from collections.abc import Sequence

from tomostream.errors import InputError
from tomostream.report.contents import Block, Report

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<div id="app"><p>This report needs JavaScript, which is switched off in this browser.</p></div>
<script type="application/json" id="report">{report}</script>
{blocks}
<script>{script}</script>
</body>
</html>
"""


def render_page(title: str, report: Report, blocks: Sequence[Block | None]) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    report
        The overview.
    blocks
        One for each tomogram, in the order of `report["tomograms"]`; None if there is nothing to show.

    Raises
    ------
    InputError
        If the built page is not part of the installation.
    """
    script, style = built_page()
    heavy = "\n".join(
        f'<script type="application/json" id="tomogram-{number}">{_as_text(block)}</script>'
        for number, block in enumerate(blocks)
        if block is not None
    )
    return _PAGE.format(title=html.escape(title), style=style, report=_as_text(report), blocks=heavy, script=script)


@functools.cache
def built_page() -> tuple[str, str]:
    """Return the built page's script and style.

    Raises
    ------
    InputError
        If they are not part of the installation.
    """
    folder = importlib.resources.files("tomostream.report") / "static"
    try:
        script, style = ((folder / name).read_text(encoding="utf-8") for name in ("report.js", "report.css"))
    except OSError:
        raise InputError(
            "this installation lacks the report's built page (tomostream/report/static); in a clone, build it: cd tomostream/view/web && npm ci && npm run build"
        ) from None
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--"), style.replace("</style", "<\\/style")


def _as_text(values: Report | Block) -> str:
    """Return JSON that can't end its HTML element: `<` occurs in strings only, where its escape means the same."""
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
