"""A tiny study made of plain files, for tests of the pipeline and the command line."""

from __future__ import annotations

import numpy as np
import pytest

import rsacompare as rc
from rsacompare import pipeline
from rsacompare.schema import store

STUDY = """
name = "tiny"
title = "A tiny study"
question = "Does it run?"
random_state = 3
rois = ["EVC", "IT"]

[brain.lab]
source = "brain.nc"

[networks.first]
source = "first.npz"

[networks.second]
source = "second.npz"
layers = ["l0", "l2"]

[metrics.rsa]
comparator = "spearman"

[inference]
contrast = ["first", "second"]
n_bootstrap = 50
n_permutations = 50
"""


class Tiny:
    """The files of the study in one folder, and what went into them."""

    n_stimuli = 14

    def __init__(self, folder):
        self.folder, self.file = folder, folder / "STUDY.toml"
        rng = np.random.default_rng(11)
        self.ids = [f"picture{i}" for i in range(self.n_stimuli)]
        latent = rng.normal(size=(self.n_stimuli, 6))
        self.brain = {
            f"s{s}": {
                roi: 1 - np.corrcoef(latent + rng.normal(size=latent.shape))
                for roi in ("EVC", "IT")
            }
            for s in range(3)
        }
        self.layers = {
            name: {
                f"l{i}": (latent @ rng.normal(size=(6, 9)) + rng.normal(size=(14, 9)))
                for i in range(3)
            }
            for name in ("first", "second")
        }
        self.write_brain()
        for name in self.layers:
            self.write_network(name)
        self.write()

    def write_brain(self, ids=None):
        tree = rc.rdms(self.brain, stimulus_id=ids or self.ids, attrs={"title": "A lab's brains"})
        store.write_netcdf(tree, self.folder / "brain.nc")

    def write_network(self, name, ids=None):
        layers = self.layers[name]
        np.savez(
            self.folder / f"{name}.npz", stimulus_id=ids or self.ids, layers=list(layers), **layers
        )

    def write(self, *changes):
        """The study file with pieces of text replaced."""
        text = STUDY
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        self.file.write_text(text, encoding="utf-8")
        return self.file


def plain_report(result, out, *, files_in=None):
    index = out / "index.html"
    store.write_text(index, result.attrs["title"] + rc.tables(result)["scores"].to_html())
    return index


@pytest.fixture
def plain_pages(monkeypatch):
    """In place of drawn pages, one that holds the scores: drawing is tested elsewhere."""
    monkeypatch.setattr(pipeline, "report", plain_report)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """The output folder of the tiny study; to be copied, not touched."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "report", plain_report)
        pipeline.run(Tiny(folder).file, folder / "out")
    return folder / "out"


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "study").mkdir()
    return Tiny(tmp_path / "study")
