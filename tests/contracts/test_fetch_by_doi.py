"""Files under a figshare DOI, against a figshare of our own on this machine."""

import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rsacompare.datasets import download, figshare, load
from rsacompare.datasets.registry import Entry
from rsacompare.errors import FetchError

BODY = bytes(range(256)) * 2000
MD5 = hashlib.md5(BODY).hexdigest()
DOI = "doi:10.6084/m9.figshare.7387130"


class Figshare:
    """The list of files of an article, and the files; each can fail in its own way."""

    def __init__(self):
        self.body, self.cut, self.log = BODY, [], []
        self.status, self.listing, self.drip = 200, None, 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                outer.log.append((self.path, self.headers.get("Range")))
                if self.path.startswith("/v2/"):
                    return self.api()
                start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
                part = outer.body[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                self.wfile.write(part[: outer.cut.pop(0) if outer.cut else None])
                return None

            def api(self):
                text = json.dumps(outer.files()) if outer.listing is None else outer.listing
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                try:
                    for letter in text if outer.drip else [text]:
                        self.wfile.write(letter.encode())
                        self.wfile.flush()
                        time.sleep(outer.drip)
                except OSError:
                    pass  # nobody waits any more

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        self.thread = threading.Thread(target=self.httpd.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def files(self, **changes):
        wanted = {"name": "Subject1.h5", "download_url": f"{self.url}/ndownloader/1"}
        wanted |= {"computed_md5": MD5, "size": len(BODY)} | changes
        other = {"name": "Subject2.h5", "download_url": f"{self.url}/x", "computed_md5": "0" * 32}
        return [other, wanted]

    def stop(self):
        self.httpd.shutdown()
        self.httpd.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch, tmp_path):
    running = Figshare()
    monkeypatch.setattr(figshare, "API", f"{running.url}/v2")
    monkeypatch.setenv("RSACOMPARE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("RSACOMPARE_DATA", raising=False)
    entries = {
        f"god/{name}": Entry(f"god/{name}", "", "CC0", f"{DOI}{version}/{name}", "a subject")
        for name, version in (("Subject1.h5", ""), ("Subject3.h5", ".v5"))
    }
    monkeypatch.setattr(load, "registry", lambda: entries)
    yield running
    running.stop()


def kept(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file())


def test_address_and_checksum_come_from_the_doi(server, tmp_path):
    path = load.fetch("god/Subject1.h5")
    assert path == tmp_path / "cache" / "god" / "Subject1.h5"
    assert path.read_bytes() == BODY
    assert [p for p, _ in server.log] == [
        "/v2/articles/7387130/files?page_size=1000",
        "/ndownloader/1",
    ]
    assert load.fetch("god/Subject1.h5") == path
    assert len(server.log) == 2, "what was verified once is at hand without a network"
    assert kept(tmp_path) == [".Subject1.h5.checksum", "Subject1.h5"]


def test_a_version_in_the_doi_is_asked_for(server):
    with pytest.raises(FetchError, match=r"unknown file of this DOI 'Subject3\.h5'; did you mean"):
        load.fetch("god/Subject3.h5")
    assert server.log[0][0] == "/v2/articles/7387130/versions/5/files?page_size=1000"


def test_a_cut_transfer_goes_on_where_it_stopped(server, monkeypatch, tmp_path):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.cut = [98_304]
    with pytest.raises(FetchError, match=r"god/Subject1\.h5.*was cut"):
        load.fetch("god/Subject1.h5")
    assert kept(tmp_path) == [f".Subject1.h5.{MD5[:8]}.part"]
    assert load.fetch("god/Subject1.h5").read_bytes() == BODY
    assert server.log[-1][1] == "bytes=98304-"


def test_a_corrupted_file_is_not_kept(server, tmp_path):
    server.body = BODY[:-1] + b"x"
    with pytest.raises(FetchError, match="wrong checksum") as err:
        load.fetch("god/Subject1.h5")
    assert MD5 in str(err.value)
    assert hashlib.md5(server.body).hexdigest() in str(err.value)
    assert kept(tmp_path) == []


def test_a_damaged_or_unknown_file_in_the_cache_is_looked_up_again(server, tmp_path):
    path = load.fetch("god/Subject1.h5")
    path.write_bytes(b"damaged")
    assert load.at_hand("god/Subject1.h5") is None
    assert load.fetch("god/Subject1.h5").read_bytes() == BODY
    (tmp_path / "cache" / "god" / ".Subject1.h5.checksum").unlink()
    transfers = len([p for p, _ in server.log if p.startswith("/nd")])
    assert load.fetch("god/Subject1.h5") == path  # verified against the DOI, not copied again
    assert len([p for p, _ in server.log if p.startswith("/nd")]) == transfers
    assert load.at_hand("god/Subject1.h5") == path


def test_the_offline_folder_is_tried_first(server, monkeypatch, tmp_path):
    (tmp_path / "data" / "god").mkdir(parents=True)
    (tmp_path / "data" / "god" / "Subject1.h5").write_bytes(b"as I have it")
    monkeypatch.setenv("RSACOMPARE_DATA", str(tmp_path / "data"))
    assert load.fetch("god/Subject1.h5").read_bytes() == b"as I have it"
    assert server.log == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": 404}, "the server answered 404"),
        ({"status": 503}, "the server answered 503"),
        ({"listing": "<html>"}, "something else than a list of files"),
        ({"listing": '{"message": "x"}'}, "something else than a list of files"),
        ({"listing": "[1, 2]"}, "something else than a list of files"),
        ({"listing": "null"}, "something else than a list of files"),
        ({"listing": '[{"name": "Subject1.h5"}]'}, "figshare gives no address"),
        (
            {"listing": '[{"name": "Subject1.h5", "download_url": "https://x/1"}]'},
            "figshare gives no checksum",
        ),
        (
            {"listing": '[{"name": "Subject1.h5", "download_url": "file:///etc/passwd"}]'},
            "figshare gives no address",
        ),
    ],
)
def test_an_api_that_fails_is_one_sentence(server, tmp_path, change, said):
    for key, value in change.items():
        setattr(server, key, value)
    with pytest.raises(FetchError, match=re.escape(said)) as err:
        load.fetch("god/Subject1.h5")
    for part in ("god/Subject1.h5", DOI, "127.0.0.1", "RSACOMPARE_DATA"):
        assert part in str(err.value)
    assert "\n" not in str(err.value)
    assert kept(tmp_path) == []


def test_an_api_that_trickles_is_bounded_in_time(server, monkeypatch):
    monkeypatch.setattr(download, "ANSWER_WITHIN", 0.5)
    server.drip = 0.05
    start = time.monotonic()
    with pytest.raises(FetchError, match="no answer within"):
        load.fetch("god/Subject1.h5")
    assert time.monotonic() - start < 2


def test_without_a_network_it_says_so(server, monkeypatch):
    server.stop()
    start = time.monotonic()
    with pytest.raises(FetchError, match=r"no connection.*connect to the internet"):
        load.fetch("god/Subject1.h5")
    assert time.monotonic() - start < 10
    monkeypatch.setattr(server, "stop", lambda: None)


@pytest.mark.parametrize("address", ["doi:10.5281/zenodo.1/x", "doi:10.6084/m9.figshare.x/y"])
def test_other_dois_are_refused(address):
    with pytest.raises(ValueError, match="no file under a DOI of figshare"):
        figshare.locate(address, lambda url: [])
