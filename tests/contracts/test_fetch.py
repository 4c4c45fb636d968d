"""fetch against a real server on this machine: complete, cut, wrong, absent, refused."""

import hashlib
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pooch
import pytest

from rsacompare.datasets import download, load
from rsacompare.datasets.registry import Entry, registry
from rsacompare.errors import FetchError, ProtocolError

BODY = bytes(range(256)) * 2000
SHA = hashlib.sha256(BODY).hexdigest()


class Server:
    """Serves BODY under any path; `cut` limits the bytes of each answer, `log` keeps ranges."""

    def __init__(self):
        self.body, self.status, self.cut, self.ranges, self.log = BODY, None, [], True, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                wanted = self.headers.get("Range")
                outer.log.append(wanted)
                start = 0
                if outer.status:
                    return self.send_error(outer.status)
                if wanted and outer.ranges:
                    start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
                    if start >= len(outer.body):
                        return self.send_error(416)
                part = outer.body[start:]
                self.send_response(206 if wanted and outer.ranges else 200)
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                limit = outer.cut.pop(0) if outer.cut else len(part)
                self.wfile.write(part[:limit])
                return None

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        self.thread = threading.Thread(target=self.httpd.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def stop(self):
        self.httpd.shutdown()
        self.httpd.server_close()
        self.thread.join()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def entry(monkeypatch, tmp_path, server):
    """A registry of two files; the cache in a temporary folder; no offline folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("RSACOMPARE_DATA", raising=False)
    entries = {
        "set/file.bin": Entry("set/file.bin", SHA, "MIT", f"{server.url}/file.bin", "a file"),
        "set/made.npz": Entry("set/made.npz", SHA, "BSD", "", "computed from AlexNet"),
    }
    monkeypatch.setattr(load, "registry", lambda: entries)
    return entries["set/file.bin"]


def leftovers(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file())


@pytest.mark.usefixtures("entry")
def test_complete_download_lands_in_the_cache_once(server, tmp_path):
    path = load.fetch("set/file.bin")
    assert path.read_bytes() == BODY
    assert path == tmp_path / "cache" / "rsacompare" / "set" / "file.bin"
    assert load.fetch("set/file.bin") == path
    assert server.log == [None], "the second call must not ask the server again"
    assert leftovers(tmp_path) == ["file.bin"]


@pytest.mark.usefixtures("entry")
def test_a_cut_transfer_goes_on_where_it_stopped(server):
    server.cut = [98_304, 49_152]
    assert load.fetch("set/file.bin").read_bytes() == BODY
    assert server.log == [None, "bytes=98304-", "bytes=147456-"]


@pytest.mark.usefixtures("entry")
def test_resumes_in_a_later_call(server, monkeypatch, tmp_path):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.cut = [98_304]
    with pytest.raises(FetchError, match="was cut"):
        load.fetch("set/file.bin")
    assert leftovers(tmp_path) == [f".file.bin.{SHA[:8]}.part"], "no half file under the real name"
    assert load.fetch("set/file.bin").read_bytes() == BODY
    assert server.log == [None, "bytes=98304-"]


@pytest.mark.usefixtures("entry")
def test_a_server_that_cannot_resume_starts_again(server):
    server.cut, server.ranges = [98_304], False
    assert load.fetch("set/file.bin").read_bytes() == BODY


@pytest.mark.usefixtures("entry")
def test_a_part_that_is_no_beginning_is_thrown_away(server, tmp_path):
    folder = tmp_path / "cache" / "rsacompare" / "set"
    folder.mkdir(parents=True)
    part = folder / f".file.bin.{SHA[:8]}.part"
    part.write_bytes(b"x" * (len(BODY) + 7))
    assert load.fetch("set/file.bin").read_bytes() == BODY


@pytest.mark.usefixtures("entry")
def test_gives_up_when_nothing_more_arrives(server):
    server.cut = [98_304, 0, 0, 0, 0, 0]
    with pytest.raises(FetchError, match="cut"):
        load.fetch("set/file.bin")
    assert len(server.log) == 2


@pytest.mark.usefixtures("entry")
def test_wrong_checksum_names_both_and_keeps_nothing(server, tmp_path):
    server.body = b"another file"
    with pytest.raises(FetchError) as err:
        load.fetch("set/file.bin")
    assert SHA in str(err.value)
    assert hashlib.sha256(b"another file").hexdigest() in str(err.value)
    assert "set/file.bin" in str(err.value)
    assert leftovers(tmp_path) == []


@pytest.mark.usefixtures("entry")
@pytest.mark.parametrize("status", [404, 503])
def test_a_refusal_says_so(server, status):
    server.status = status
    with pytest.raises(FetchError, match=f"answered {status}.*RSACOMPARE_DATA"):
        load.fetch("set/file.bin")


def test_refused_port_says_what_to_do(monkeypatch, entry):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/file.bin"
        refused = {entry.path: entry._replace(address=address)}
        monkeypatch.setattr(load, "registry", lambda: refused)
        start = time.monotonic()
        with pytest.raises(FetchError, match="no connection") as err:
            load.fetch("set/file.bin")
    assert time.monotonic() - start < 5
    assert "connect to the internet" in str(err.value)
    assert "\n" not in str(err.value)


@pytest.mark.usefixtures("entry")
def test_a_name_look_up_that_hangs_is_bounded(monkeypatch):
    release = threading.Event()

    def hang(*args, **kwargs):
        release.wait(30)
        raise socket.gaierror("released")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(download, "ANSWER_WITHIN", 0.5)
    start = time.monotonic()
    with pytest.raises(FetchError, match="no answer within"):
        load.fetch("set/file.bin")
    assert time.monotonic() - start < 3
    release.set()


def test_the_answer_is_due_within_ten_seconds():
    assert download.ANSWER_WITHIN < 9


def test_offline_folder_comes_first_and_is_read_in_place(server, entry, monkeypatch, tmp_path):
    file = tmp_path / "data" / "set" / "file.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(BODY)
    monkeypatch.setenv("RSACOMPARE_DATA", str(tmp_path / "data"))
    assert load.fetch(entry.path) == file
    assert server.log == []
    file.write_bytes(b"damaged")
    with pytest.raises(FetchError) as err:
        load.fetch(entry.path)
    for part in (str(file), SHA, hashlib.sha256(b"damaged").hexdigest(), "damaged, incomplete"):
        assert part in str(err.value)


def test_the_cache_folder_can_be_set(server, entry, monkeypatch, tmp_path):
    monkeypatch.setenv("RSACOMPARE_CACHE", str(tmp_path / "mine"))
    assert load.fetch(entry.path) == tmp_path / "mine" / "set" / "file.bin"
    other = load.fetch(entry.path, cache=tmp_path / "given")
    assert other == tmp_path / "given" / "set" / "file.bin"
    assert len(server.log) == 2
    assert load.fetch(entry.path, cache=tmp_path / "given") == other
    assert len(server.log) == 2
    assert not (tmp_path / "cache").exists()


def test_progress_counts_bytes_and_goes_on_after_a_cut(server, entry):
    server.cut = [98_304]
    told = []
    load.fetch(entry.path, progress=lambda *what: told.append(what))
    assert {(name, total) for name, _, total in told} == {("set/file.bin", len(BODY))}
    done = [d for _, d, _ in told]
    assert done == sorted(done)
    assert done[-1] == len(BODY)
    assert 98_304 in done


def test_a_damaged_cache_is_filled_again(server, entry):
    path = load.fetch(entry.path)
    path.write_bytes(b"damaged")
    assert load.at_hand(entry.path) is None
    assert load.fetch(entry.path).read_bytes() == BODY
    assert len(server.log) == 2


@pytest.mark.usefixtures("entry")
def test_computed_files_say_from_what(server, monkeypatch, tmp_path):
    with pytest.raises(FetchError, match=r"no address .*computed from AlexNet.*RSACOMPARE_DATA"):
        load.fetch("set/made.npz")
    monkeypatch.setenv("RSACOMPARE_DATA", str(tmp_path))
    with pytest.raises(FetchError, match=re.escape(f"it is '{tmp_path}' now")):
        load.fetch("set/made.npz")
    assert server.log == []


def test_unknown_file_and_resolve(entry, tmp_path, monkeypatch):
    with pytest.raises(ProtocolError, match=r"did you mean 'set/file\.bin'"):
        load.fetch("set/fil.bin")
    with pytest.raises(ProtocolError, match=r"did you mean 'set/made\.npz'"):
        load.resolve("set/mad.npz")
    assert load.resolve("phantom") == "phantom"
    assert load.resolve(entry.path).read_bytes() == BODY
    own = tmp_path / "own.npz"
    own.write_bytes(b"")
    assert load.resolve("own.npz", folder=tmp_path) == own
    assert load.resolve(own) == own
    monkeypatch.chdir(tmp_path)
    assert load.resolve("own.npz").resolve() == own.resolve()


def test_registry_is_complete():
    assert len(registry()) == 17 + 2 + 6 + 15
    for path, entry in registry().items():
        assert entry.licence, path
        assert entry.what, path
        if path.startswith("god"):  # what the DOI says when it is asked
            assert entry.sha256 == ""
            name = path.split("/")[1]
            assert entry.address == f"doi:10.6084/m9.figshare.7387130/{name}"
            continue
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256), path
        if path.startswith("networks/"):  # onnx/models serves no LFS files any more
            assert entry.address.startswith("https://huggingface.co/onnxmodelzoo/legacy_models/")
            continue
        # a pinned commit, not a branch that moves
        assert not entry.address or re.search(r"/[0-9a-f]{40}/", entry.address), path


def test_registry_equals_the_files_at_hand():
    load_from = load.os.environ.get("RSACOMPARE_DATA")
    if not load_from:
        pytest.skip("RSACOMPARE_DATA is not set: the real files are not here")
    for path, entry in registry().items():
        if entry.sha256 and not path.startswith("networks/"):  # 244 MB each, not kept beside
            assert str(load.fetch(path)).startswith(load_from)


def test_data_readme_is_generated():
    from pathlib import Path

    from rsacompare.datasets.registry import readme

    committed = Path(__file__).parents[2] / "data" / "README.md"
    assert committed.read_text(encoding="utf-8") == readme(), "run: make data/README.md"


def test_pooch_is_what_verifies(entry, monkeypatch):
    """The checksum of a download is pooch's business, with the hash of the registry."""
    seen = {}
    real = pooch.retrieve
    monkeypatch.setattr(pooch, "retrieve", lambda *a, **k: seen.update(k) or real(*a, **k))
    load.fetch(entry.path)
    assert seen["known_hash"] == f"sha256:{SHA}"
