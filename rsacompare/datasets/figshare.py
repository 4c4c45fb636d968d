"""Files that are named by a DOI at figshare: where they are now, and their checksum."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from rsacompare import plugins

API = "https://api.figshare.com/v2"
_DOI = re.compile(r"doi:10\.6084/m9\.figshare\.(\d+)(?:\.v(\d+))?/(.+)")


class Remote(NamedTuple):
    """A file as figshare has it: where to get it, and its checksum (`md5:…`)."""

    address: str
    known_hash: str


def locate(address: str, get_json: Callable[[str], Any]) -> Remote:
    """Ask figshare for a file: one request, without a version for the newest.

    Parameters
    ----------
    address : str
        `doi:10.6084/m9.figshare.<article>[.v<version>]/<file name>`, as pooch writes it. The
        number in a figshare DOI is that of the article, so no other look-up is needed.
    get_json : callable (url) -> object

    Raises
    ------
    ValueError
        No such file (the nearest name is told), or another answer than a list of files.
    """
    parts = _DOI.fullmatch(address)
    if parts is None:
        raise ValueError(f"'{address}' is no file under a DOI of figshare")
    article, version, name = parts.groups()
    place = f"{article}/versions/{version}" if version else article
    listed = get_json(f"{API}/articles/{place}/files?page_size=1000")
    try:
        files = {str(file["name"]): file for file in listed}
    except (TypeError, KeyError):
        raise ValueError("figshare answered with something else than a list of files") from None
    if name not in files:
        raise ValueError(plugins.unknown("file of this DOI", name, files))
    url = files[name].get("download_url")
    md5 = str(files[name].get("computed_md5") or files[name].get("supplied_md5")).lower()
    if not isinstance(url, str) or not re.fullmatch(r"https?://.+", url):
        raise ValueError(f"figshare gives no address for {name}")
    if not re.fullmatch(r"[0-9a-f]{32}", md5):
        raise ValueError(f"figshare gives no checksum for {name}")
    return Remote(url, f"md5:{md5}")
