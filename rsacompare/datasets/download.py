"""Downloads: pinned address, checksum, resumed where the server allows, whole or not at all."""

from __future__ import annotations

import logging
import os
import queue
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch
import requests

from rsacompare.datasets.registry import Entry
from rsacompare.errors import FetchError

ANSWER_WITHIN = 8.0  # seconds from the call to the answer's first line, name look-up included
STALL = 20.0  # seconds without a byte in the middle of a file
ATTEMPTS = 5  # a transfer that is cut goes on from where it was, so often
BLOCK = 1 << 13  # small, because the block in which a connection ends is lost


class _Cut(Exception):
    """The connection ended before the file did."""


def download(entry: Entry, target: Path, hint: str) -> Path:
    """Download a file of the registry to `target`.

    What has arrived of a file is kept as `.<name>.<hash>.part` beside the target, and the next
    attempt asks for the rest. The target appears only after its checksum was right.

    Parameters
    ----------
    entry : Entry
    target : Path
    hint : str
        What to do without a network; ends the message.

    Raises
    ------
    FetchError
        No connection or answer within 8 seconds, a refusal, a transfer that is cut again and
        again, a wrong checksum (both are named), a folder that cannot be written.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    part = target.with_name(f".{target.name}.{entry.sha256[:8]}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(
            entry.address,
            known_hash=f"sha256:{entry.sha256}",
            fname=target.name,
            path=target.parent,
            downloader=_Downloader(entry.path, part, hint),
        )
    except ValueError as err:  # pooch's word for a wrong checksum; the file is gone by now
        said = " ".join(str(err).split())
        raise FetchError(
            f"{entry.path} from {entry.address} has the wrong checksum ({said}); the download was "
            "damaged or the file at the address has changed; run again, and if it stays so, report "
            "it"
        ) from err
    except OSError as err:
        raise FetchError(
            f"cannot keep {entry.path} in {target.parent}: {err.strerror or err}"
        ) from err
    return target


class _Downloader:
    """What pooch calls to fill its temporary file."""

    def __init__(self, name: str, part: Path, hint: str):
        self.name, self.part, self.hint = name, part, hint

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        for _attempt in range(ATTEMPTS):
            before = _size(self.part)
            try:
                self._transfer(url)
            except _Cut as cut:
                if _size(self.part) <= before:
                    raise self._error(url, str(cut)) from cut
            else:
                os.replace(self.part, output_file)
                return
        raise self._error(url, f"the connection was cut {ATTEMPTS} times; what has arrived is kept")

    def _transfer(self, url: str) -> None:
        """Append what is missing to the partial file; _Cut when not all of it came."""
        start = _size(self.part)
        response = self._answer(url, start)
        with response:
            if response.status_code == 416 and start:  # what we kept is no beginning of this file
                self.part.unlink()
                self._transfer(url)
                return
            if response.status_code not in (200, 206):
                raise self._error(url, f"the server answered {response.status_code}")
            resumed = response.status_code == 206
            try:
                with open(self.part, "ab" if resumed else "wb") as file:
                    for block in response.iter_content(BLOCK):
                        file.write(block)
            except requests.RequestException as err:
                raise _Cut(f"the connection was cut ({type(err).__name__})") from err
        expected = response.headers.get("Content-Length")
        if expected is not None and _size(self.part) < int(expected) + start * resumed:
            raise _Cut("the connection was cut")

    def _answer(self, url: str, start: int) -> requests.Response:
        """The response, its body not yet read, or FetchError within ANSWER_WITHIN seconds.

        In a thread of its own, because a look-up of the host's name can hang for a minute and no
        time limit of requests covers it.
        """
        headers = {"Accept-Encoding": "identity"}  # ranges and lengths of the file itself
        if start:
            headers["Range"] = f"bytes={start}-"
        answers: queue.Queue[requests.Response | Exception] = queue.Queue()

        def ask() -> None:
            try:
                limits = (ANSWER_WITHIN / 2, STALL)
                answers.put(requests.get(url, headers=headers, stream=True, timeout=limits))
            except Exception as err:  # handed over: this thread has nobody to tell
                answers.put(err)

        threading.Thread(target=ask, daemon=True).start()
        try:
            answer = answers.get(timeout=ANSWER_WITHIN)
        except queue.Empty:
            raise self._error(url, f"no answer within {ANSWER_WITHIN:.0f} seconds") from None
        if isinstance(answer, Exception):
            raise self._error(url, f"no connection ({type(answer).__name__})") from answer
        return answer

    def _error(self, url: str, why: str) -> FetchError:
        return FetchError(
            f"cannot download {self.name} from {urlsplit(url).netloc}: {why}; {self.hint}"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
