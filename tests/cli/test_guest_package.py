"""Metrics of an installed package, named in a study file and run in a fresh process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rsacompare as rc
from rsacompare import plugins
from rsacompare.errors import ProtocolError
from rsacompare.testing import check_metric

ROOT = Path(__file__).parents[2]
MODULE = '''
import rsacompare as rc


def plain(activation, response):
    """Mean response against mean activation: a function, and nothing else."""
    ids, voxels, _, _ = rc.average_repetitions(response)
    ids, voxels = ids[-12:], voxels[-12:]
    network = activation.sel(stimulus_id=ids).mean("neuroid").values
    return rc.TargetEvidence(ids, voxels.mean(axis=1)[:, None], network[:, None])


@rc.register_metric("named_otherwise", meaning=rc.Meaning("decorated level"))
def decorated(activation, response):
    return plain(activation, response)


def broken(activation, response):
    return 1 / 0


class Scaled(rc.Metric):
    """The same of one voxel."""

    name = "scaled"
    meaning = rc.Meaning("level of a voxel")

    def __init__(self, voxel: int = 0):
        self.voxel = voxel

    def compare(self, activation, response):
        return plain(activation, response.isel(neuroid=[self.voxel]))
'''
ENTRIES = """
[rsacompare.metrics]
guest_plain = guest_metrics:plain
guest_decorated = guest_metrics:decorated
guest_scaled = guest_metrics:Scaled
guest_broken = guest_metrics:broken
"""
STUDY = """
name = "guest"
rois = ["V1"]
[brain.sample]
source = "responses.nc"
[networks.tiny-a]
source = "tiny-a.npz"
[networks.tiny-b]
source = "tiny-b.npz"
[metrics.guest_plain]
[metrics.guest_decorated]
[metrics.fifth]
type = "guest_scaled"
voxel = 4
[inference]
n_bootstrap = 20
n_permutations = 20
n_splits = 1
"""


def install(folder, name, module, entries):
    """A package as an installer leaves it: a module, and beside it its dist-info."""
    info = folder / f"{name}-0.1.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}.py").write_text(module, "utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n", "utf-8")
    (info / "entry_points.txt").write_text(entries, "utf-8")
    return folder


def run(folder):
    """The command on the study in a folder."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT)])}
    command = [sys.executable, "-m", "rsacompare.cli", "run", "STUDY.toml", "--quiet"]
    command += ["--out", "out"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The study with the guest's metrics, by the command; its folder."""
    folder = tmp_path_factory.mktemp("guest")
    install(folder / "site", "guest_metrics", MODULE, ENTRIES)
    for file in ("responses.nc", "tiny-a.npz", "tiny-b.npz"):
        shutil.copy(ROOT / "data" / "sample" / file, folder)
    (folder / "STUDY.toml").write_text(STUDY, "utf-8")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return folder


def levels(ran, subject, voxels=slice(None)):
    """Mean of the last 12 stimuli by name in V1, straight from the sample's files."""
    node = rc.load_dataset(ran / "responses.nc")[subject].to_dataset()
    mask = node["roi_mask"].sel(roi="V1").values
    values = node["response"].values[:, mask][:, voxels].mean(axis=1)
    return pd.Series(values, node["stimulus_id"].values).groupby(level=0).mean()


@pytest.mark.parametrize(
    ("metric", "voxels"),
    [("guest_plain", slice(None)), ("guest_decorated", slice(None)), ("fifth", [4])],
)
def test_an_installed_metric_scores_the_closed_form(ran, metric, voxels):
    scores = pd.read_csv(ran / "out" / "scores.csv").query("metric == @metric and roi == 'V1'")
    assert len(scores)
    for row in scores.itertuples():
        with np.load(ran / f"{row.network}.npz") as held:
            network = pd.Series(held[row.layer].mean(axis=1), held["stimulus_id"])
        brain = levels(ran, row.subject, voxels)
        brain = brain[sorted(brain.index)[-12:]]
        want = np.corrcoef(brain, network[brain.index])[0, 1]
        assert row.score == pytest.approx(want, abs=1e-6)


def test_it_has_its_page_its_intervals_and_its_contrasts(ran):
    out = ran / "out"
    assert "decorated level" in (out / "guest_decorated.html").read_text("utf-8")
    assert "level of a voxel" in (out / "fifth.html").read_text("utf-8")
    summary = pd.read_csv(out / "summary.csv")
    assert (summary["ci_low"] < summary["ci_high"]).all()
    assert summary["p_null"].between(1 / 21, 1).all()
    contrasts = pd.read_csv(out / "contrasts.csv").query("pairing == 'mean'")
    assert set(contrasts["metric"]) == {"guest_plain", "guest_decorated", "fifth"}
    a = summary.query("metric == 'fifth' and network == 'tiny-a'")["score"].mean()
    b = summary.query("metric == 'fifth' and network == 'tiny-b'")["score"].mean()
    got = contrasts.query("metric == 'fifth'")["difference"].item()
    assert got == pytest.approx(a - b)


def test_an_error_inside_an_installed_metric_is_one_line_with_its_cell(ran, tmp_path):
    folder = shutil.copytree(ran, tmp_path / "broken", ignore=shutil.ignore_patterns("out"))
    text = STUDY[: STUDY.index("[metrics")] + "[metrics.guest_broken]\n"
    (folder / "STUDY.toml").write_text(text, "utf-8")
    done = run(folder)
    assert done.returncode == 3
    said = "error: unexpected ZeroDivisionError: division by zero (while comparing guest_broken, "
    assert said + "tiny-a/" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.fixture
def clean(monkeypatch):
    monkeypatch.setattr(plugins, "_registered", {group: {} for group in plugins.GROUPS})
    yield monkeypatch
    for name in ("guest_metrics", "other_guest"):
        sys.modules.pop(name, None)


CHECKED = MODULE.replace("    ids, voxels = ids[-12:], voxels[-12:]\n", "")


def test_an_installed_metric_is_listed_and_checked_by_its_name(clean, tmp_path):
    clean.syspath_prepend(install(tmp_path, "guest_metrics", CHECKED, ENTRIES))
    listed = plugins.described("metrics")
    assert any(s.startswith("guest_plain ") and s.endswith("nothing else.") for s in listed)
    for name in ("guest_plain", "guest_decorated", "guest_scaled"):
        assert check_metric(name)
    assert rc.metric("guest_decorated").meaning.label == "decorated level"
    assert rc.metric("guest_scaled", voxel=2).config() == {"voxel": 2}
    with pytest.raises(ProtocolError, match="unknown metric 'guest_plane'; did you mean 'guest_pl"):
        rc.metric("guest_plane")


def test_two_packages_of_one_name_are_told_apart(clean, tmp_path):
    entries = "[rsacompare.metrics]\nrsa = other_guest:plain\n"
    clean.syspath_prepend(install(tmp_path, "other_guest", MODULE, entries))
    with pytest.raises(ProtocolError) as error:
        rc.metric("rsa")
    assert "'rsa' is offered by several installed packages" in str(error.value)
    assert "other_guest:plain and rsacompare.metrics.rsa:RSA" in str(error.value)
    assert type(rc.metric("decoding")).__name__ == "Decoding"
