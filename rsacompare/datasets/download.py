"""Downloads: pinned address, checksum, resumed where the server allows, whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch
import requests
import urllib3

from rsacompare.datasets import figshare
from rsacompare.datasets.registry import Entry
from rsacompare.errors import FetchError

ANSWER_WITHIN = 8.0  # seconds from the call to the answer's first line, name look-up included
STALL = 20.0  # seconds without a byte in the middle of a file
ATTEMPTS = 5  # a transfer that is cut goes on from where it was, so often
BLOCK = 1 << 13  # small, because the block in which a connection ends is lost
LISTING = 1 << 24  # bytes, more than any list of files takes

Progress = Callable[[str, int, int], None]  # name, bytes here, bytes in all


class _Cut(Exception):
    """The connection ended before the file did."""


def download(entry: Entry, target: Path, hint: str, progress: Progress | None = None) -> Path:
    """Download a file of the registry to `target`.

    What has arrived of a file is kept as `.<name>.<hash>.part` beside the target, and the next
    attempt asks for the rest. The target appears only after its checksum was right. For a file
    under a DOI the repository is asked for address and checksum first; the checksum is then kept
    beside the file (:func:`checksum_file`).

    Parameters
    ----------
    entry : Entry
    target : Path
    hint : str
        What to do without a network; ends the message.
    progress : callable (name, done, total), optional
        Told of every block that arrives, in bytes.

    Raises
    ------
    FetchError
        No connection or answer within 8 seconds, a refusal, a transfer that is cut again and
        again, a wrong checksum (both are named), a folder that cannot be written.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    by_doi = entry.address.startswith("doi:")
    if by_doi:
        address, known_hash = _located(entry, hint)
    else:
        address, known_hash = entry.address, f"sha256:{entry.sha256}"
    part = target.with_name(f".{target.name}.{known_hash.split(':')[1][:8]}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(
            address,
            known_hash=known_hash,
            fname=target.name,
            path=target.parent,
            downloader=_Downloader(entry.path, part, hint, progress),
        )
        if by_doi:
            checksum_file(target).write_text(known_hash, encoding="ascii")
    except ValueError as err:  # pooch's word for a wrong checksum; the file is gone by now
        said = " ".join(str(err).split())
        raise FetchError(
            f"{entry.path} from {address} has the wrong checksum ({said}); the download was "
            "damaged or the file at the address has changed; run again, and if it stays so, report "
            "it"
        ) from err
    except OSError as err:
        raise FetchError(
            f"cannot keep {entry.path} in {target.parent}: {err.strerror or err}"
        ) from err
    return target


def checksum_file(target: Path) -> Path:
    """Where the checksum that a repository gave for a downloaded file is kept."""
    return target.with_name(f".{target.name}.checksum")


def _located(entry: Entry, hint: str) -> figshare.Remote:
    """Address and checksum of a file under a DOI, within ANSWER_WITHIN seconds."""

    def get_json(url: str) -> Any:
        response = requests.get(url, stream=True, timeout=(ANSWER_WITHIN / 2, ANSWER_WITHIN))
        with response:
            if response.status_code != 200:
                raise ValueError(f"the server answered {response.status_code}")
            body = response.raw.read(LISTING, decode_content=True)
        return json.loads(body)

    try:
        return _within(ANSWER_WITHIN, lambda: figshare.locate(entry.address, get_json))
    except TimeoutError:
        why = f"no answer within {ANSWER_WITHIN:.0f} seconds"
    except json.JSONDecodeError:
        why = "figshare answered with something else than a list of files"
    except ValueError as err:
        why = str(err)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as err:
        why = f"no connection ({type(err).__name__})"
    raise FetchError(
        f"cannot look up {entry.path} ({entry.address}) at {urlsplit(figshare.API).netloc}: "
        f"{why}; {hint}"
    )


def _within(seconds: float, work: Callable[[], Any]) -> Any:
    """What `work` returns or raises, TimeoutError when it takes longer.

    In a thread of its own, because a look-up of a host's name can hang for a minute and no time
    limit of requests covers it.
    """
    answers: queue.Queue[tuple[Any, Exception | None]] = queue.Queue()

    def run() -> None:
        try:
            answers.put((work(), None))
        except Exception as err:  # handed over: this thread has nobody to tell
            answers.put((None, err))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return answer


class _Downloader:
    """What pooch calls to fill its temporary file."""

    def __init__(self, name: str, part: Path, hint: str, progress: Progress | None = None):
        self.name, self.part, self.hint, self.progress = name, part, hint, progress

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
            expected = response.headers.get("Content-Length")
            done = start if resumed else 0
            total = done + int(expected or 0)
            try:
                with open(self.part, "ab" if resumed else "wb") as file:
                    for block in response.iter_content(BLOCK):
                        file.write(block)
                        done += len(block)
                        if self.progress:
                            self.progress(self.name, done, total)
            except requests.RequestException as err:
                raise _Cut(f"the connection was cut ({type(err).__name__})") from err
        if expected is not None and done < total:
            raise _Cut("the connection was cut")

    def _answer(self, url: str, start: int) -> requests.Response:
        """The response, its body not yet read, or FetchError within ANSWER_WITHIN seconds."""
        headers = {"Accept-Encoding": "identity"}  # ranges and lengths of the file itself
        if start:
            headers["Range"] = f"bytes={start}-"
        limits = (ANSWER_WITHIN / 2, STALL)
        try:
            return _within(
                ANSWER_WITHIN,
                lambda: requests.get(url, headers=headers, stream=True, timeout=limits),
            )
        except TimeoutError:
            raise self._error(url, f"no answer within {ANSWER_WITHIN:.0f} seconds") from None
        except Exception as err:
            raise self._error(url, f"no connection ({type(err).__name__})") from err

    def _error(self, url: str, why: str) -> FetchError:
        return FetchError(
            f"cannot download {self.name} from {urlsplit(url).netloc}: {why}; {self.hint}"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
