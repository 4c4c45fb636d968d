"""The files we know: what each is, its address, licence and checksum.

The facts stand once, in `registry.txt` beside this module (tab separated, with a header; `-`
where a file has no address because it was computed). `data/README.md` is generated from them:
``python -m rsacompare.datasets.registry > data/README.md``.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Entry(NamedTuple):
    """One file: `path` inside a data folder, sha256, licence, address ("" for none), what it is.

    An address `doi:<DOI>/<file>` is looked up when the file is fetched; the checksum comes from
    there too, so sha256 is "".
    """

    path: str
    sha256: str
    licence: str
    address: str
    what: str


@cache
def registry() -> dict[str, Entry]:
    """All known files by their path.

    Examples
    --------
    >>> registry()["kriegeskorte92/92_brainRDMs.mat"].licence
    'MIT'
    """
    text = files("rsacompare.datasets").joinpath("registry.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    return {row[0]: Entry(*("" if field == "-" else field for field in row)) for row in rows}


def _link(address: str) -> str:
    if address.startswith("doi:"):
        return f"[DOI](https://doi.org/{address[4:].rsplit('/', 1)[0]})"
    if "/resolve/main/" in address:  # a mirror without commits to name; the checksum pins the file
        return f"[mirror]({address})"
    return f"[pinned]({address})" if address else "none: computed"


HEAD = """\
# Data

Generated from `rsacompare/datasets/registry.txt` by `make data/README.md`; do not edit.

None of the files below is part of this project. `rsacompare` looks for each in the folder that the
environment variable `RSACOMPARE_DATA` names (read in place, checksum verified), then in its cache
(`RSACOMPARE_CACHE`), and then downloads it from the pinned address, verifies the checksum and keeps
it in the cache. Files under a DOI are looked up there when they are fetched, checksum included.
Files without an address were computed once from the named source and are read from
`RSACOMPARE_DATA` only.

`sample/` is a small simulated study of our own in the true file formats (`make_sample.py` makes
it); try `rsacompare run data/sample/study.toml`.

| file | what | licence | address | sha256 |
|---|---|---|---|---|
"""


def readme() -> str:
    """The text of `data/README.md`."""
    rows = [
        f"| `{e.path}` | {e.what} | {e.licence} | "
        f"{_link(e.address)} | {f'`{e.sha256}`' if e.sha256 else 'read from the DOI'} |\n"
        for e in registry().values()
    ]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(readme())
