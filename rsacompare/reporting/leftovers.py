"""What an earlier report left in a folder that the present one does not show."""

from __future__ import annotations

import re
from pathlib import Path

MARK = '<meta name="generator" content="rsacompare"/>'
_PAGE = re.compile(r'href="([^"/:]+\.html)"')
_FIGURE = re.compile(r'href="figures/([^"]+)"')


def remove_stale(folder: str | Path) -> list[Path]:
    """Remove our pages that `index.html` does not link to, and figures that no page links to.

    To be called once all new pages stand: until then every page finds its files. Pages without
    our mark are somebody else's and stay.

    Parameters
    ----------
    folder : path
        With `index.html` and `figures/`.

    Returns
    -------
    list of Path
        What was removed.
    """
    home = Path(folder)
    index = (home / "index.html").read_text("utf-8")
    linked = {"index.html", *_PAGE.findall(index)}
    removed, shown = [], set()
    for page in sorted(home.glob("*.html")):
        text = page.read_text("utf-8", errors="replace")
        if page.name not in linked and MARK in text[:1000]:
            removed.append(page)
        else:
            shown |= set(_FIGURE.findall(text))
    for file in sorted((home / "figures").glob("*")):
        if file.suffix in (".svg", ".png") and file.name not in shown:
            removed.append(file)
    for path in removed:
        path.unlink(missing_ok=True)
    return removed
