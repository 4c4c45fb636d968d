"""Extraction: known activations in, files that hold them out, whatever happens on the way."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rsacompare as rc
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.networks import images, spool
from rsacompare.networks.network import Layer, Network
from rsacompare.networks.preprocess import Preprocessing

SIZE = 4
N = 11


class Plain(Network):
    """Layers with a closed form: the pixels, their differences, and the mean of each colour."""

    preprocessing = Preprocessing((SIZE, SIZE), "raw")

    def __init__(self, name="plain", sha="abc", gain=1.0, attrs=None):
        self.name, self.gain, self.n_runs = name, gain, 0
        self.sets = {"default": ["pixels", "contrast", "mean"]}
        self.attrs = attrs or {"weights": "none", "weights_sha256": sha, "framework": "numpy"}

    def layers(self):
        shapes = {"pixels": (SIZE, SIZE, 3), "contrast": (SIZE, SIZE, 2), "mean": (3,)}
        return [
            Layer(name, "conv", shape, 7 * i, i, (i + 1) / 3)
            for i, (name, shape) in enumerate(shapes.items())
        ]

    def layer(self, spec):
        known = {layer.name: layer for layer in self.layers()}
        if spec not in known:
            raise ProtocolError(f"network {self.name}: no layer '{spec}'")
        return known[spec]

    def forward(self, specs):
        def run(x):
            self.n_runs += 1
            made = {
                "pixels": self.gain * x,
                "contrast": np.stack([x[..., 0] - x[..., 1], x[..., 1] - x[..., 2]], axis=-1),
                "mean": x.mean(axis=(1, 2)),
            }
            return {spec: made[spec] for spec in specs}

        return run


@pytest.fixture
def network():
    return Plain()


@pytest.fixture
def pictures():
    """Labels out of order, so that sorting them anywhere would show."""
    rng = np.random.default_rng(3)
    names = [f"p{i:02d}" for i in rng.permutation(N)]
    return {name: rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8) for name in names}


@pytest.fixture
def folder(pictures, tmp_path):
    place = tmp_path / "pictures"
    place.mkdir()
    for name, picture in pictures.items():
        Image.fromarray(picture).save(place / f"{name}.png")
    return place


def values(tree, layer, network="plain"):
    return tree[network][layer]["activation"].values


def test_values_labels_and_units_have_their_closed_form(network, pictures):
    tree = rc.extract(network, pictures, units="all", batch_size=4)
    stack = np.array(list(pictures.values()), dtype=np.float32)
    assert tree["plain/pixels"]["stimulus_id"].values.tolist() == list(pictures)
    np.testing.assert_array_equal(values(tree, "pixels"), stack.reshape(N, -1))
    contrast = np.stack([stack[..., 0] - stack[..., 1], stack[..., 1] - stack[..., 2]], axis=-1)
    h, w, c = np.unravel_index(13, contrast.shape[1:])
    np.testing.assert_array_equal(values(tree, "contrast")[:, 13], contrast[:, h, w, c])
    np.testing.assert_allclose(values(tree, "mean"), stack.mean(axis=(1, 2)), rtol=1e-6)
    assert list(tree["plain"].children) == ["pixels", "contrast", "mean"]
    assert network.n_runs == 3


def test_attributes_hold_all_that_repeats_it(network, pictures):
    tree = rc.extract(network, pictures, ["mean", "pixels"], 20, 5, name="mine", batch_size=4)
    assert tree["mine/mean"].attrs["layer_index"] == 0
    attrs = tree["mine/pixels"].attrs
    wanted = {
        "op": "conv",
        "shape": "[4, 4, 3]",
        "n_units": 48,
        "n_parameters": 0,
        "layer_index": 1,
        "depth": 1 / 3,
        "units": "20 of 48 units at random (seed 5)",
        "n_constant": 0,
        "random_state": 5,
        "weights_sha256": "abc",
        "framework": "numpy",
        "batch_size": 4,
    }
    assert {key: attrs[key] for key in wanted} == wanted
    assert '"scaling": "raw"' in attrs["preprocessing"]
    assert images.digest(images.find_stimuli(pictures)) in tree.attrs["inputs"]
    again = rc.extract(
        Plain(),
        pictures,
        ["mean", "pixels"],
        attrs["units_option"],
        attrs["random_state"],
        name="mine",
        batch_size=attrs["batch_size"],
    )
    assert again.identical(tree)


UNITS = ["all", 20, "channel-mean", "projection:12", "pca:0.9", "pca:3", "yu2018"]


@pytest.mark.parametrize("units", UNITS)
def test_a_file_holds_what_memory_holds(units, network, pictures, tmp_path):
    out = tmp_path / "new" / "plain.nc"
    held = rc.extract(network, pictures, units=units, batch_size=4)
    opened = rc.extract(network, pictures, units=units, batch_size=4, out=out)
    assert opened.identical(held)
    assert rc.load_activations(out).identical(held)
    assert [p.name for p in out.parent.iterdir()] == ["plain.nc"]


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_change_no_bit(units, batch_size, network, pictures):
    for layer in ("pixels", "contrast"):
        one = rc.extract(network, pictures, layer, units, batch_size=4)
        other = rc.extract(network, pictures, layer, units, batch_size=batch_size)
        np.testing.assert_array_equal(values(one, layer), values(other, layer))


def test_the_file_is_read_only_when_it_is_used(network, pictures, tmp_path):
    tree = rc.extract(network, pictures, out=tmp_path / "plain.nc")
    assert not tree["plain/pixels"]["activation"].variable._in_memory


def test_progress_is_told(network, pictures):
    heard = []
    rc.extract(network, pictures, batch_size=4, progress=lambda *told: heard.append(told))
    assert heard == [("plain: pictures", done, N) for done in (4, 8, 11)]


# -- going on ------------------------------------------------------------------------------------


@pytest.fixture
def broken(folder):
    """The ninth picture in the order of the files is none; gives how to mend it."""
    file = sorted(folder.iterdir())[8]
    good = file.read_bytes()
    file.write_bytes(good[: len(good) // 2])
    return file, lambda: file.write_bytes(good)


def test_a_broken_picture_is_named_and_nothing_before_it_is_lost(broken, folder, tmp_path):
    file, mend = broken
    out = tmp_path / "plain.nc"
    first = Plain()
    with pytest.raises(DataError, match=file.name):
        rc.extract(first, folder, out=out, batch_size=4)
    assert first.n_runs == 2
    assert not out.exists()
    mend()
    second = Plain()
    tree = rc.extract(second, folder, out=out, batch_size=4)
    assert second.n_runs == 1
    assert tree.identical(rc.extract(Plain(), folder, batch_size=4))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pictures", "plain.nc"]


def test_a_batch_that_is_written_over_is_not_done(folder, tmp_path, monkeypatch):
    """Stopped in the middle of that, and the picture put back as it was."""
    out = tmp_path / "plain.nc"
    with pytest.raises(Stopped):
        rc.extract(Plain(), folder, out=out, batch_size=2, progress=stop_after(8))
    file = sorted(folder.iterdir())[3]
    good = file.read_bytes()
    Image.new("RGB", (SIZE, SIZE), (1, 2, 3)).save(file)

    def stop(self, batch, what):
        note(self, batch, what)
        if what == spool.AGAIN:
            raise Stopped

    note = spool.Folder._note
    with monkeypatch.context() as patch:
        patch.setattr(spool.Folder, "_note", stop)
        with pytest.raises(Stopped):
            rc.extract(Plain(), folder, out=out, batch_size=2)
    file.write_bytes(good)
    again = Plain()
    tree = rc.extract(again, folder, out=out, batch_size=2)
    assert again.n_runs == 3
    assert tree.identical(rc.extract(Plain(), folder, batch_size=2))


class Stopped(Exception):
    pass


def stop_after(n):
    def told(stage, done, total):
        if done >= n:
            raise Stopped

    return told


def test_a_changed_picture_runs_its_batch_again(folder, tmp_path):
    out = tmp_path / "plain.nc"
    with pytest.raises(Stopped):
        rc.extract(Plain(), folder, out=out, batch_size=2, progress=stop_after(8))
    file = sorted(folder.iterdir())[3]
    Image.new("RGB", (SIZE, SIZE), (1, 2, 3)).save(file)
    again = Plain()
    tree = rc.extract(again, folder, out=out, batch_size=2)
    assert again.n_runs == 3  # its batch, and the two that were not there
    assert values(tree, "mean")[3].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": ["pixels"]}, "layers"),
        ({"units": 6}, "units"),
        ({"random_state": 1}, "seed"),
        ({"batch_size": 3}, "batch size"),
        ({"preprocessing": {"scaling": "tf"}}, "preprocessing"),
        ({"network": Plain(sha="other", gain=2.0)}, "weights"),
        ({"network": Plain(attrs={"weights": "unknown"})}, "weights"),
    ],
)
def test_another_extraction_starts_anew_and_says_so(change, said, folder, tmp_path, caplog):
    out = tmp_path / "plain.nc"
    given = {"network": Plain(), "stimuli": folder, "units": 5, "batch_size": 4}
    with pytest.raises(Stopped):
        rc.extract(**given, out=out, progress=stop_after(8))
    changed = {**given, **change}
    changed["network"].n_runs = 0
    with caplog.at_level(logging.WARNING, "rsacompare"):
        tree = rc.extract(**changed, out=out)
    assert f"({said} differ): starting anew" in caplog.text
    assert changed["network"].n_runs == -(-N // changed["batch_size"])
    assert tree.identical(rc.extract(**changed))


def test_weights_without_checksum_are_never_gone_on_with(folder, tmp_path, caplog):
    given = {"stimuli": folder, "out": tmp_path / "plain.nc", "batch_size": 4}
    with pytest.raises(Stopped):
        rc.extract(Plain(attrs={"weights": "?"}), **given, progress=stop_after(4))
    network = Plain(attrs={"weights": "?"})
    rc.extract(network, **given)
    assert network.n_runs == 3
    assert "weights, which have no checksum," in caplog.text
    with pytest.raises(DataError, match="without checksum"):
        rc.extract(network, **given)


def test_a_file_knows_what_it_holds(folder, tmp_path):
    out = tmp_path / "plain.nc"
    made = rc.extract(Plain(), folder, out=out, units=5)
    again = Plain()
    assert rc.extract(again, folder, out=out, units=5).identical(made)
    assert again.n_runs == 0
    before = out.read_bytes()
    with pytest.raises(DataError, match=r"another extraction \(units differ\).*--force"):
        rc.extract(again, folder, out=out, units=6)
    file = sorted(folder.iterdir())[0]
    Image.new("RGB", (SIZE, SIZE)).save(file)
    with pytest.raises(DataError, match="contents of the pictures"):
        rc.extract(again, folder, out=out, units=5)
    assert out.read_bytes() == before
    replaced = rc.extract(again, folder, out=out, units=6, overwrite=True)
    assert values(replaced, "pixels").shape == (N, 6)


def test_a_file_of_somebody_else_is_not_touched(network, pictures, tmp_path):
    out = tmp_path / "thesis.nc"
    out.write_text("all I have")
    with pytest.raises(DataError, match="is no extraction of ours"):
        rc.extract(network, pictures, out=out)
    assert out.read_text() == "all I have"


SCRIPT = """
import sys, time
sys.path.insert(0, {folder!r})
from test_extract import Plain
import rsacompare as rc
rc.extract(Plain(), {pictures!r}, out={out!r}, batch_size=1,
           progress=lambda *told: time.sleep(0.05))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on(folder, tmp_path):
    out = tmp_path / "plain.nc"
    code = SCRIPT.format(folder=str(Path(__file__).parent), pictures=str(folder), out=str(out))
    done = tmp_path / ".plain.nc.partial" / "done"
    with subprocess.Popen([sys.executable, "-c", code]) as run:
        until = time.monotonic() + 60
        while not (done.is_file() and len(done.read_text().split()) >= 8):
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(run.pid, signal.SIGKILL)
    assert not out.exists()
    network = Plain()
    tree = rc.extract(network, folder, out=out, batch_size=1)
    assert 0 < network.n_runs <= N - 4
    assert tree.identical(rc.extract(Plain(), folder, batch_size=1))


# -- memory --------------------------------------------------------------------------------------

WIDE = """
import resource, sys
sys.path.insert(0, {folder!r})
import numpy as np
from test_extract import Plain
from rsacompare.networks.network import Layer
import rsacompare as rc

class Wide(Plain):
    def __init__(self):
        super().__init__("wide")
        self.sets = {{"default": ["wide"]}}
    def layers(self):
        return [Layer("wide", "conv", (100, 100, 20), 0, 0, 1.0)]
    def forward(self, specs):
        def run(x):
            seed = x.reshape(len(x), -1)[:, :4]
            return {{"wide": (seed @ self.mix).reshape(len(x), 100, 100, 20)}}
        self.mix = np.random.default_rng(0).normal(size=(4, 200_000)).astype(np.float32)
        return run

rng = np.random.default_rng(0)
pictures = rng.integers(0, 255, ({n}, 4, 4, 3)).astype(np.uint8)
ids = [f"p{{i}}" for i in range({n})]
tree = rc.extract(
    Wide(), pictures, units={units!r}, stimulus_id=ids, out={out!r}, batch_size=16
)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(peak, tree["wide/wide"].sizes["neuroid"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("units", "kept"), [("all", 200_000), ("pca:0.999", 4)])
def test_memory_does_not_grow_with_pictures(units, kept, tmp_path):
    """100 and 600 pictures of 200,000 units: the larger set is 480 MB, the growth is not."""
    peaks = []
    for n in (100, 600):
        code = WIDE.format(
            folder=str(Path(__file__).parent), n=n, units=units, out=str(tmp_path / f"{n}.nc")
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        peak, columns = map(int, run.stdout.split())
        assert columns == kept
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 60  # MiB


# -- constant units, bad values ------------------------------------------------------------------


@pytest.fixture
def half_dark(pictures):
    """The upper half of all pictures is the same."""
    for picture in pictures.values():
        picture[: SIZE // 2] = 17
    return pictures


@pytest.mark.parametrize("units", ["all", "pca:0.9"])
def test_constant_units_are_counted(units, network, half_dark, caplog):
    with caplog.at_level(logging.INFO, "rsacompare"):
        tree = rc.extract(network, half_dark, ["pixels", "mean"], units)
    assert tree["plain/pixels"].attrs["n_constant"] == 24
    assert tree["plain/mean"].attrs["n_constant"] == 0
    assert caplog.messages == ["plain: units constant over the pictures: 24 of pixels"]


@pytest.mark.parametrize("to_file", [False, True])
def test_constant_units_are_dropped_when_asked(to_file, network, half_dark, tmp_path):
    out = tmp_path / "plain.nc" if to_file else None
    tree = rc.extract(network, half_dark, "pixels", "all", drop_constant=True, out=out)
    assert tree["plain/pixels"]["neuroid"].values.tolist() == list(range(24, 48))
    stack = np.array(list(half_dark.values()))[:, 2:].reshape(N, -1)
    np.testing.assert_array_equal(values(tree, "pixels"), stack)
    assert tree["plain/pixels"].attrs["n_constant"] == 24
    assert "24 constant ones left out" in tree["plain/pixels"].attrs["units"]


@pytest.mark.parametrize("units", ["all", "pca:0.5"])
def test_layers_in_which_nothing_varies(units, network):
    same = {name: np.full((SIZE, SIZE, 3), 9, np.uint8) for name in "abc"}
    with pytest.raises(DataError, match=r"layer 'pixels': .* varies"):
        rc.extract(network, same, "pixels", units, drop_constant=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_names_network_layer_and_picture(bad, pictures):
    class Bad(Plain):
        def forward(self, specs):
            run = super().forward(specs)

            def with_nan(x):
                found = run(x)
                found["contrast"][x[:, 0, 0, 0] == first, 0, 0, 0] = bad
                return found

            return with_nan

    first = list(pictures.values())[6][0, 0, 0]
    culprit = next(name for name, p in pictures.items() if p[0, 0, 0] == first)
    with pytest.raises(DataError, match=rf"network bad, layer 'contrast': NaN .*'{culprit}'"):
        rc.extract(Bad("bad"), pictures, units="all", batch_size=4)


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"stimuli": {}}, DataError, "no pictures"),
        ({"stimuli": "empty"}, DataError, "no pictures"),
        ({"layers": "pixel"}, ProtocolError, "did you mean 'pixels'"),
        ({"layers": ["pixels", "nowhere"]}, ProtocolError, "no layer 'nowhere'"),
        ({"layers": ["pixels", "pixels"]}, ProtocolError, "asked for twice"),
        ({"units": 0}, ProtocolError, "whole number from 1"),
        ({"units": -5}, ProtocolError, "whole number from 1"),
        ({"units": 1.5}, ProtocolError, "units must be a number or one of"),
        ({"units": True}, ProtocolError, "units must be"),
        ({"units": "yu2081"}, ProtocolError, "did you mean 'yu2018'"),
        ({"units": "projection"}, ProtocolError, "whole number from 1"),
        ({"units": "projection:0"}, ProtocolError, "whole number from 1"),
        ({"units": "pca:1.5"}, ProtocolError, "between 0 and 1"),
        ({"units": "pca:0"}, ProtocolError, "between 0 and 1"),
        ({"units": "pca:nan"}, ProtocolError, "between 0 and 1"),
        ({"units": "god2017"}, ProtocolError, "eight|conv1 to conv5"),
        ({"batch_size": 0}, ProtocolError, "batch_size"),
        ({"random_state": -1}, ProtocolError, "random_state"),
        ({"random_state": None}, ProtocolError, "random_state"),
        ({"fit_on": ["p01"]}, ProtocolError, "fit_on is for"),
        ({"fit_on": ["p01", "x"], "units": "pca:2"}, LabelError, "not in the stimuli"),
        ({"fit_on": ["p01"], "units": "pca:2"}, ProtocolError, "at least 2"),
        ({"preprocessing": {"scale": 3}}, ProtocolError, "did you mean 'scaling'"),
        ({"preprocessing": {"size": 9}}, ProtocolError, r"takes pictures of \(4, 4\)"),
        ({"weights": "imagenet"}, ProtocolError, "takes no 'weights'"),
        ({"out": "."}, DataError, "is a folder"),
        ({"out": "file/x.nc"}, DataError, "cannot write in"),
        ({"name": ""}, None, ""),
        ({"name": ".."}, LabelError, "cannot name"),
    ],
)
def test_bad_input_is_told_in_a_sentence_before_anything_runs(
    given, error, said, network, pictures, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").write_text("")
    call = {"network": network, "stimuli": pictures, **given}
    if error is None:
        rc.extract(**call)
        return
    with pytest.raises(error, match=said) as caught:
        rc.extract(**call)
    assert "\n" not in str(caught.value)
    assert network.n_runs == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file"]


def test_two_pictures_of_one_name(network, folder):
    shutil.copy(folder / "p01.png", folder / "p01.bmp")
    with pytest.raises(LabelError, match="'p01' is the name of two files"):
        rc.extract(network, folder)


def test_a_small_disk_is_told_before_anything_runs(network, pictures, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=5_000)
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"5 KB free, but 7\.3 KB are needed"):
        rc.extract(network, pictures, units="all", out=tmp_path / "plain.nc")
    assert network.n_runs == 0
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_loses_nothing(pictures, tmp_path, monkeypatch):
    out, opened = tmp_path / "plain.nc", []

    def full(file, mode="r", **options):
        opened.append(file)
        if len(opened) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return open(file, mode, **options)

    monkeypatch.setattr(spool, "open", full, raising=False)
    with pytest.raises(DataError, match="No space left on device; what is done is kept"):
        rc.extract(Plain(), pictures, out=out, batch_size=4)
    monkeypatch.undo()
    network = Plain()
    rc.extract(network, pictures, out=out, batch_size=4)
    assert network.n_runs == 2


def test_more_than_memory_is_refused_without_a_file(pictures, monkeypatch):
    monkeypatch.setattr(spool, "_memory", lambda: 1000.0)
    with pytest.raises(DataError, match=r"3.65 KB of activations do not fit .* `out`"):
        rc.extract(Plain(), pictures, units="all")
