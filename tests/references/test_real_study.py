"""The real study through the public path: the reference figures of the data's own README."""

import os
from pathlib import Path

import pytest

import rsacompare as rc
from rsacompare.schema import trees
from rsacompare.study.inputs import load_inputs
from rsacompare.study.protocol import load_study

pytestmark = pytest.mark.skipif(
    "RSACOMPARE_DATA" not in os.environ, reason="needs the published RDMs: set RSACOMPARE_DATA"
)
STUDY = Path(__file__).parents[2] / "analyses" / "kriegeskorte92.toml"

# computed with numpy, scipy and rsatoolbox 0.3.2, to four digits
SCORES = {
    "alexnet_w1a2/conv1": (-0.0304, 0.0098, 0.0831),
    "alexnet_w1a2/conv4": (-0.0076, 0.0648, 0.1209),
    "alexnet_w1a2/pool5": (-0.0695, 0.0145, 0.0880),
    "resnet50_w1a2/conv1": (0.0066, 0.0504, 0.1094),
    "resnet50_w1a2/res3d": (0.0125, 0.0588, 0.1222),
    "resnet50_w1a2/res5c": (0.0455, 0.1338, 0.1729),
    "squeezenet/fire3": (0.1948, 0.1407, 0.0998),
    "squeezenet/fire9": (0.0940, 0.1871, 0.1835),
    "squeezenet/logits": (-0.0172, 0.0680, 0.1719),
}
CEILINGS = {
    "spearman": {"EVC": (0.2419, 0.3917), "IT": (0.4525, 0.5422), "hIT": (0.3723, 0.6657)},
    "corr": {"EVC": (0.2488, 0.3998), "IT": (0.4593, 0.5492), "hIT": (0.3944, 0.6804)},
}
DIGITS = 0.5001e-4


@pytest.fixture(scope="module")
def inputs():
    study = load_study(STUDY)
    brains, networks = load_inputs(study)
    return brains, trees.merge_networks(list(networks.values()))


@pytest.fixture(scope="module", params=["spearman", "corr"])
def result(request, inputs):
    brains, activations = inputs
    metric = rc.metric("rsa", comparator=request.param)
    comparison = rc.compare(activations, brains, {request.param: metric}, n_jobs=2)
    options = {"n_bootstrap": 20, "n_permutations": 20, "n_splits": 1, "n_jobs": 2}
    return rc.infer(comparison, ("alexnet_w1a2", "resnet50_w1a2"), **options)


@pytest.mark.parametrize("result", ["spearman"], indirect=True)
def test_subject_mean_scores(result):
    for layer, expected in SCORES.items():
        found = result["mean_score"].sel(layer=layer, roi=["EVC", "IT", "hIT"]).values.ravel()
        assert found == pytest.approx(expected, abs=DIGITS), layer


def test_noise_ceilings(result):
    for roi, (low, high) in CEILINGS[result["metric"].item()].items():
        cell = result.sel(roi=roi, layer="squeezenet/fire3")
        assert cell["group_ceiling_low"].item() == pytest.approx(low, abs=DIGITS)
        assert cell["group_ceiling_high"].item() == pytest.approx(high, abs=DIGITS)


def test_each_roi_has_its_own_subjects(result):
    counts = result["score"].sel(layer="squeezenet/fire3").notnull().sum("subject")
    assert counts.sel(roi=["EVC", "IT", "hIT"]).values.ravel().tolist() == [15, 15, 4]
