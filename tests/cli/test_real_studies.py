"""The studies in analyses/ against the numbers that their README states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rsacompare as rc
from rsacompare import pipeline
from rsacompare.errors import FetchError
from rsacompare.study.protocol import InferenceOptions, MetricChoice, load_study

ANALYSES = Path(__file__).parents[2] / "analyses"

# computed with numpy, scipy and rsatoolbox 0.3.2 outside this project
REFERENCE = {
    ("alexnet_w1a2", "conv1"): (-0.0304, 0.0098, 0.0831),
    ("alexnet_w1a2", "conv4"): (-0.0076, 0.0648, 0.1209),
    ("alexnet_w1a2", "pool5"): (-0.0695, 0.0145, 0.0880),
    ("resnet50_w1a2", "conv1"): (0.0066, 0.0504, 0.1094),
    ("resnet50_w1a2", "res3d"): (0.0125, 0.0588, 0.1222),
    ("resnet50_w1a2", "res5c"): (0.0455, 0.1338, 0.1729),
    ("squeezenet", "fire3"): (0.1948, 0.1407, 0.0998),
    ("squeezenet", "fire9"): (0.0940, 0.1871, 0.1835),
    ("squeezenet", "logits"): (-0.0172, 0.0680, 0.1719),
}
ROIS = ("EVC", "IT", "hIT")
CEILINGS = {
    ("rsa", "EVC"): (0.2419, 0.3917),
    ("rsa", "IT"): (0.4525, 0.5422),
    ("rsa", "hIT"): (0.3723, 0.6657),
    ("corr", "EVC"): (0.2488, 0.3998),
    ("corr", "IT"): (0.4593, 0.5492),
    ("corr", "hIT"): (0.3944, 0.6804),
}
DIGITS = 5.1e-5
# whole layers, computed outside this project from pictures squashed by Pillow's bicubic filter
# with the interpreter's default delegate on, which computes in another order
MOBILENETS = {
    "mobilenet_v1_0.25_128": (0.062, 0.195, 0.211),
    "mobilenet_v1_0.5_160": (0.044, 0.235, 0.269),
}
LAST = "Conv2d_13_pointwise"  # the last convolution before pooling


@pytest.fixture(scope="module")
def summary():
    """The real study, with few draws: scores and ceilings do not depend on them.

    A second comparator stands beside the study's own.
    """
    study = load_study(ANALYSES / "kriegeskorte92.toml")
    metrics = study.metrics | {"corr": MetricChoice(type="rsa", comparator="corr")}
    few = InferenceOptions(contrast=[("squeezenet", "resnet50_w1a2")], n_bootstrap=10)
    few = few.model_copy(update={"n_permutations": 10, "n_splits": 1})
    try:
        result = pipeline.run(
            study.model_copy(update={"inference": few, "metrics": metrics}), n_jobs=2
        )
    except FetchError as err:
        pytest.skip(str(err))
    return rc.tables(result)["summary"].set_index(["metric", "network", "layer", "roi"])


@pytest.mark.parametrize(("network", "layer"), REFERENCE)
def test_real_scores_equal_the_reference_figures(summary, network, layer):
    scores = [summary.loc[("rsa", network, layer, roi), "score"] for roi in ROIS]
    assert scores == pytest.approx(REFERENCE[network, layer], abs=DIGITS)


@pytest.mark.parametrize(("metric", "roi"), CEILINGS)
def test_real_noise_ceilings_equal_the_reference_figures(summary, metric, roi):
    rows = summary.xs((metric, roi), level=("metric", "roi"))
    for column, value in zip(("ceiling_low", "ceiling_high"), CEILINGS[metric, roi], strict=True):
        assert rows[column].to_list() == pytest.approx([value] * len(rows), abs=DIGITS)


def test_all_four_networks_take_part_with_all_their_layers(summary):
    layers = summary.reset_index().groupby("network", sort=False)["layer"].nunique()
    assert layers["alexnet_a2020"] == 9
    assert set(layers.index) == {"alexnet_w1a2", "resnet50_w1a2", "squeezenet", "alexnet_a2020"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_the_demo_decoding_and_encoding_disagree_as_built(seed):
    result = pipeline.run(ANALYSES / "demo.toml", random_state=seed, n_jobs=2)
    rows = rc.tables(result)["contrasts"].query("pairing == 'mean'")
    verdicts = rows.groupby("metric")["verdict"].agg(list).to_dict()
    assert verdicts == {"decoding": ["a"] * 10, "encoding": ["b"] * 10, "rsa": ["undecided"] * 10}


@pytest.fixture(scope="module")
def mobilenets(tmp_path_factory):
    """The four MobileNets on the 92 pictures, with as many draws as the study asks for."""
    pytest.importorskip("ai_edge_litert", reason="pip install ai-edge-litert")
    try:
        result = pipeline.run(
            ANALYSES / "mobilenets92.toml", tmp_path_factory.mktemp("mobilenets"), n_jobs=2
        )
    except FetchError as err:
        pytest.skip(str(err))
    return rc.tables(result)


@pytest.mark.slow
@pytest.mark.parametrize("network", MOBILENETS)
def test_mobilenets_that_run_here_equal_the_reference_figures(mobilenets, network):
    rows = mobilenets["summary"].set_index(["metric", "network", "layer", "roi"])
    scores = [rows.loc[("rsa", network, LAST, roi), "score"] for roi in ROIS]
    assert scores == pytest.approx(MOBILENETS[network], abs=0.002)


@pytest.mark.slow
def test_a_more_accurate_mobilenet_looks_no_more_like_it(mobilenets):
    rows = mobilenets["contrasts"].query("pairing == 'mean' and roi == 'IT'")
    assert rows["verdict"].to_list() == ["equivalent"] * 4
    assert rows["difference"].abs().max() < 0.02
    # the layer before pooling is the one nearest to IT in all four
    rows = mobilenets["summary"].query("roi == 'IT'")
    best = rows.loc[rows.groupby("network")["score"].idxmax(), "layer"].to_list()
    assert best == [LAST, LAST, LAST, "Conv_1"]


# best layer of each network, and the difference by the mean over layers
YU2018 = {
    "V1": ("cnn1", 0.830, "conv1", 0.616, 0.141),
    "V2": ("cnn2", 0.837, "conv2_block2", 0.620, 0.163),
    "V3": ("cnn3", 0.836, "conv3_block2", 0.621, 0.154),
    "V4": ("cnn4", 0.827, "conv3_block4", 0.614, 0.153),
    "LOC": ("cnn6", 0.834, "conv4_block5", 0.636, 0.157),
    "FFA": ("cnn8", 0.846, "predictions", 0.637, 0.146),
    "PPA": ("cnn8", 0.855, "predictions", 0.657, 0.137),
    "LVC": ("cnn2", 0.836, "conv2_block2", 0.615, 0.169),
    "HVC": ("cnn8", 0.858, "predictions", 0.644, 0.178),
    "VC": ("cnn8", 0.761, "conv2_block2", 0.469, 0.279),
}


@pytest.fixture(scope="module")
def yu2018(tmp_path_factory):
    """The figure of Yu et al. on the phantom in GOD files: (tables, folder of the files)."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RSACOMPARE_CACHE", str(cache))
        result = pipeline.run(ANALYSES / "yu2018.toml", n_jobs=2)
    (folder,) = (cache / "god_phantom").iterdir()
    return rc.tables(result), folder


@pytest.mark.slow
def test_yu_figure_on_the_phantom_has_the_values_of_the_readme(yu2018):
    tables, _ = yu2018
    assert tables["summary"]["roi"].drop_duplicates().to_list() == list(YU2018)
    means = tables["contrasts"].query("pairing == 'mean'").set_index("roi")
    readme = (ANALYSES / "README.md").read_text("utf-8")
    for roi, (layer_a, a, layer_b, b, difference) in YU2018.items():
        rows = tables["summary"].query("roi == @roi").set_index(["network", "layer"])["score"]
        for network, layer, value in (("sim-alexnet", layer_a, a), ("sim-resnet50", layer_b, b)):
            assert rows[network].idxmax() == layer
            assert rows[network][layer] == pytest.approx(value, abs=DIGITS * 10)
        assert means.loc[roi, "difference"] == pytest.approx(difference, abs=DIGITS * 10)
        assert f"| {roi} | {layer_a} {a:.3f} [" in readme
        assert f"| {layer_b} {b:.3f} [" in readme
        assert f"| {difference:+.3f} [" in readme
    assert means["verdict"].to_list() == ["a"] * 10
    pairs = tables["contrasts"].query("pairing == 'ordinal'")
    assert (pairs["difference"] > 0).sum() == len(pairs) == 80


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "roi"), [("cnn1", "V1"), ("cnn3", "LVC")])
def test_a_cell_of_yu_figure_is_least_squares_on_what_bdpy_reads(yu2018, layer, roi):
    from bdpy.bdata import BData

    tables, folder = yu2018
    features = BData(str(folder / "ImageFeatures.h5"))
    units = dict(zip(features.select("ImageID")[:, 0], features.select(layer), strict=True))
    scores = []
    for number in (1, 2, 3, 4, 5):
        subject = BData(str(folder / f"Subject{number}.h5"))
        voxels = subject.select(f"ROI_{roi} = 1")  # fewer than are selected: all of them
        assert voxels.shape[1] <= (1000 if roi == "LVC" else 500)
        design = np.column_stack([np.ones(len(voxels)), voxels])
        label, kind = subject.select("stimulus_id")[:, 0], subject.select("DataType")[:, 0]
        truth = np.array([units[x] for x in label])
        weights = np.linalg.lstsq(design[kind == 1], truth[kind == 1], rcond=None)[0]
        shown = np.unique(label[kind == 2])
        predicted = np.array(
            [(design[(kind == 2) & (label == x)] @ weights).mean(0) for x in shown]
        )
        actual = np.array([units[x] for x in shown])
        n = predicted.shape[1]
        scores.append(np.corrcoef(predicted.T, actual.T)[np.arange(n), n + np.arange(n)].mean())
    rows = tables["scores"].query("network == 'sim-alexnet' and layer == @layer and roi == @roi")
    np.testing.assert_allclose(rows.sort_values("subject")["score"], scores, atol=1e-6)
