"""The phantom's known answers against regressions of scikit-learn on what it simulates."""

import json

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from threadpoolctl import threadpool_limits

from rsacompare.datasets import phantom
from rsacompare.datasets import phantom_truth as population
from rsacompare.datasets.load import load_dataset
from rsacompare.errors import ProtocolError
from rsacompare.schema.reading import load_activations, read_tree
from rsacompare.schema.store import write_netcdf
from rsacompare.schema.trees import iter_layers

A, B = population.NETWORKS
PRESETS = list(population.PRESETS)
SHARES = ["network_share", "region_share"]
LIMITS = ["expected_decoding", "expected_encoding"]


@pytest.fixture(autouse=True)
def one_blas_thread():
    with threadpool_limits(1):  # many small regressions
        yield


def correlations(x, y):
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return (x * y).sum(axis=0) / np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))


def halves(brain, networks, network, layer, roi, subject="sub-01"):
    """Units and voxels of train stimuli, units and mean voxels of test stimuli, by label."""
    data = brain[subject].to_dataset()
    mask = data["roi_mask"].sel(roi=roi).values
    activation = networks[network][layer]["activation"]
    out = {}
    for split in ("train", "test"):
        rows = np.flatnonzero(data["split"].values == split)
        frame = data["response"].values[np.ix_(rows, mask)].astype(float)
        ids, inverse = np.unique(data["stimulus_id"].values[rows], return_inverse=True)
        mean = np.zeros((len(ids), frame.shape[1]))
        np.add.at(mean, inverse, frame)
        mean /= np.bincount(inverse)[:, None]
        out[split] = activation.sel(stimulus_id=ids).values.astype(float), mean
    return out


def by_network(table, columns):
    """(layer pair, roi, column) of each network."""
    return [table.loc[table.network == n, columns].to_numpy().reshape(8, 10, -1) for n in (A, B)]


# ---- the arrays ------------------------------------------------------------------------------


def test_regions_overlap_as_in_the_god_data():
    brain = phantom.load_brain(n_train=4, n_test=3, n_repetitions=2)
    assert list(brain.children) == [f"sub-0{i}" for i in range(1, 6)]
    sizes = set()
    for node in brain.children.values():
        mask = {str(m.roi.values): m.values for m in node["roi_mask"]}
        assert list(mask) == ["V1", "V2", "V3", "V4", "LOC", "FFA", "PPA", "LVC", "HVC", "VC"]
        single = np.array([mask[r] for r in ("V1", "V2", "V3", "V4", "LOC", "FFA", "PPA")])
        assert single.sum(axis=0).max() == 1
        np.testing.assert_array_equal(mask["LVC"], single[:3].any(axis=0))
        assert mask["HVC"][single[4:].any(axis=0)].all()
        assert mask["HVC"].sum() > single[4:].sum()
        assert not (mask["HVC"] & single[:4].any(axis=0)).any()
        assert mask["VC"].all()
        hvc = np.unique(node["voxel_y"].values[mask["HVC"]])
        np.testing.assert_array_equal(np.diff(hvc), phantom.VOXEL_MM)  # contiguous
        sizes.add(tuple(single.sum(axis=1)))
    assert len(sizes) == 5  # subjects differ


def test_presentations_carry_their_labels():
    data = phantom.load_brain(n_subjects=1, n_train=4, n_test=3, n_repetitions=2)["sub-01"]
    ids = ["train0001", "train0002", "train0003", "train0004", *["test01", "test02", "test03"] * 2]
    assert data["stimulus_id"].values.tolist() == ids
    assert data["split"].values.tolist() == ["train"] * 4 + ["test"] * 6
    assert data["repetition"].values.tolist() == [0] * 7 + [1] * 3
    assert data["response"].dtype == np.float32


def test_networks_have_eight_layers_in_order():
    networks = phantom.load_networks(n_train=4, n_test=3)
    names = [(network, layer) for network, layer, _ in iter_layers(networks)]
    assert names[:8] == [(A, f"cnn{i}") for i in range(1, 9)]
    assert [n for n, _ in names[8:]] == [B] * 8
    assert names[8][1] == "conv1"
    assert names[-1][1] == "predictions"
    assert networks[A]["cnn3"]["activation"].shape == (7, 120)


def test_same_seed_same_arrays_and_parts_do_not_disturb_each_other():
    base = phantom.load_brain(random_state=3, n_subjects=2)
    again = phantom.load_brain(random_state=3, n_subjects=2)
    fewer = phantom.load_brain(random_state=3, n_subjects=1)
    other = phantom.load_brain(random_state=4, n_subjects=1)
    first = base["sub-01"]["response"].values
    assert base.identical(again)
    np.testing.assert_array_equal(first, fewer["sub-01"]["response"].values)
    assert other["sub-01"]["response"].values[0, 0] != first[0, 0]
    assert not np.array_equal(first[:, :20], base["sub-02"]["response"].values[:, :20])
    more = phantom.load_networks(random_state=3, n_train=400)[B]["conv1"]["activation"]
    usual = phantom.load_networks(random_state=3)[B]["conv1"]["activation"]
    assert phantom.load_networks(random_state=3).identical(phantom.load_networks(random_state=3))
    np.testing.assert_array_equal(usual.values, more.sel(stimulus_id=usual["stimulus_id"]).values)


def test_noise_has_the_given_sd_and_signal_unit_variance():
    options = {"n_subjects": 1, "n_train": 2, "n_test": 60, "random_state": 1}
    quiet = phantom.load_brain(**options, n_repetitions=40, noise=0)["sub-01"]["response"].values
    loud = phantom.load_brain(**options, n_repetitions=40, noise=1.5)["sub-01"]["response"].values
    assert np.std(loud - quiet) == pytest.approx(1.5, rel=0.01)
    areas = population.area_readouts(population.SIZES["small"], 1, "sub-01")
    for loadings in areas.values():
        assert np.square(loadings).sum(axis=1).mean() == pytest.approx(1, rel=1e-12)


def test_private_features_and_noise_are_not_shared():
    networks = phantom.load_networks("null", n_train=2000)
    one, other = (networks[n][population.LAYERS[n][0]]["activation"].values for n in (A, B))
    predicted = Ridge(1e-3).fit(one[:1500], other[:1500]).predict(one[1500:])
    assert r2_score(other[1500:], predicted) < 0.02
    options = {"n_subjects": 2, "n_train": 2000, "n_test": 3, "n_repetitions": 1}
    loud, quiet = (phantom.load_brain(**options, noise=noise) for noise in (1.0, 0.0))
    noise = [(loud[s]["response"] - quiet[s]["response"]).values for s in ("sub-01", "sub-02")]
    flat = [values.ravel()[:100_000] for values in noise]  # in the order of drawing
    assert abs(correlations(*flat)) < 4 / np.sqrt(100_000)
    assert abs(np.corrcoef(noise[0][:, :30].T) - np.eye(30)).max() < 5 / np.sqrt(2000)


def test_survives_a_file(tmp_path):
    brain = phantom.load_brain("equal", n_subjects=1, n_train=5, n_test=3, n_repetitions=2)
    write_netcdf(brain, tmp_path / "brain.nc")
    back = read_tree(tmp_path / "brain.nc", "responses")
    assert back.identical(brain)


def test_loads_by_name():
    brain = load_dataset("phantom", preset="null", n_subjects=1, n_train=5)
    networks = load_activations("phantom", preset="null", n_subjects=1, n_train=5)
    assert brain.attrs == {**networks.attrs, "rsacompare_kind": "responses"}
    assert brain.attrs["simulated"] == 1
    assert "No real data" in brain.attrs["description"]


# ---- what is true ----------------------------------------------------------------------------


def test_shares_by_hand():
    """Level weights 1, 1/2 and a fifth in common; of 1 + … + 1/6 = 2.45 two features hold 1.5."""
    table = phantom.truth("flip").set_index(["network", "layer", "roi"])
    same = table.loc[(A, "cnn3", "V3")]
    assert same.network_share == pytest.approx(0.8, rel=1e-9)
    assert same.region_share == pytest.approx(1.5 / 2.45, rel=1e-9)
    # V1 reads levels 0 and 1 (2/3, 1/3), layer 3 levels 1, 2 and 3 (1/4, 1/2, 1/4)
    early = table.loc[(B, "conv3_block2", "V1")]
    assert early.region_share == pytest.approx(0.2 + 0.8 / 3, rel=1e-9)
    assert early.network_share == pytest.approx(0.5 * (0.2 + 0.8 / 4), rel=1e-9)
    far = table.loc[(A, "cnn8", "V1")]
    assert far.network_share == pytest.approx(0.8 * 0.2, rel=1e-9)
    np.testing.assert_allclose(table.xs("VC", level="roi").loc[A].network_share, 0.8, rtol=1e-9)


@pytest.mark.parametrize("size", ["small", pytest.param("full", marks=pytest.mark.slow)])
def test_presets_are_ordered_as_their_verdict_says(size):
    tables = {p: phantom.truth(p, size) for p in PRESETS}
    shares = {p: by_network(table, SHARES) for p, table in tables.items()}
    limits = {p: by_network(table, LIMITS) for p, table in tables.items()}
    a, b = shares["closer"]
    assert (a - b).min() > 0.05  # every layer pair and region, both numbers
    a, b = limits["closer"]
    assert (a - b).min() > 0.02
    a, b = shares["flip"]
    assert (a - b)[..., 0].min() > 0.05
    assert (b - a)[..., 1].min() > 0.05
    a, b = limits["flip"]
    assert (a - b)[..., 0].min() > 0.02
    assert (b - a)[..., 1].min() > 0.05
    np.testing.assert_allclose(*shares["equal"], rtol=1e-12)
    a, b = limits["equal"]
    np.testing.assert_allclose(a[..., 1], b[..., 1], rtol=1e-12)
    np.testing.assert_allclose(a[..., 0], b[..., 0], atol=0.03)  # another draw of units
    assert abs((a - b)[..., 0].mean()) < 0.005
    for values in (*shares["null"], *limits["null"]):
        np.testing.assert_array_equal(values, 0)


def test_depth_peaks_at_the_matching_region():
    for values in by_network(phantom.truth("closer"), [*SHARES, *LIMITS]):
        for level, roi in enumerate(population.AREAS):
            if roi in population.ROIS:
                column = values[:, list(population.ROIS).index(roi)]
                best = column[:, 1:].argmax(axis=0)
                assert abs(best - level).max() <= 1
                assert column[level, 1] == pytest.approx(column[:, 1].max(), rel=1e-9)


def test_truth_is_told_on_both_trees():
    options = {"n_subjects": 2, "n_train": 6, "n_test": 4, "n_repetitions": 3, "noise": 0.5}
    brain, networks = phantom.load_brain(**options), phantom.load_networks(**options)
    assert brain.attrs["truth"] == networks.attrs["truth"]
    told = json.loads(brain.attrs["truth"])
    table = phantom.truth(**options)
    assert told["columns"] == list(table.columns)
    assert [row[:3] for row in told["rows"]] == table.iloc[:, :3].values.tolist()
    np.testing.assert_allclose(
        [row[3:] for row in told["rows"]], table.iloc[:, 3:].to_numpy(), atol=1e-14
    )
    assert told["verdict"].startswith("flip")
    assert (told["decoding"], told["encoding"]) == (A, B)
    assert told["options"]["noise"] == 0.5
    assert told["means"][0]["network"] == A
    assert told["means"][0]["expected_decoding"] == pytest.approx(
        table[table.network == A].expected_decoding.mean()
    )


CELLS = [(A, "cnn5", "V3"), (B, "conv4_block3", "HVC"), (B, "conv1", "VC")]


@pytest.mark.parametrize("preset", ["flip", "closer"])
def test_shares_equal_large_sample_regressions(preset):
    options = {"n_subjects": 1, "n_train": 6000, "n_test": 8000, "n_repetitions": 1, "noise": 0}
    brain, networks = (
        phantom.load_brain(preset, **options),
        phantom.load_networks(preset, **options),
    )
    table = phantom.truth(preset, **options).set_index(["network", "layer", "roi"])
    for cell in CELLS:
        data = halves(brain, networks, *cell)
        (units, voxels), (test_units, test_voxels) = data["train"], data["test"]
        # voxels and units without noise are collinear: a little ridge stands for the pseudo-inverse
        has = Ridge(1e-3).fit(voxels, units).predict(test_voxels)
        had = Ridge(1e-3).fit(units, voxels).predict(test_units)
        weighted = {"multioutput": "variance_weighted"}
        assert r2_score(test_units, has, **weighted) == pytest.approx(
            table.network_share[cell], abs=0.012
        )
        assert r2_score(test_voxels, had, **weighted) == pytest.approx(
            table.region_share[cell], abs=0.012
        )
        # without noise the limits are roots of the shares
        assert correlations(test_units, has).mean() == pytest.approx(
            table.expected_decoding[cell], abs=0.01
        )


def test_limits_equal_large_sample_regressions():
    options = {"n_subjects": 1, "n_train": 15_000, "n_test": 3000, "n_repetitions": 4, "noise": 1.2}
    brain, networks = phantom.load_brain(**options), phantom.load_networks(**options)
    table = phantom.truth(**options).set_index(["network", "layer", "roi"])
    for cell in CELLS:
        data = halves(brain, networks, *cell)
        (units, voxels), (test_units, test_voxels) = data["train"], data["test"]
        decoded = Ridge(1e-6).fit(voxels, units).predict(test_voxels)
        encoded = Ridge(1e-2).fit(units, voxels).predict(test_units)
        assert correlations(test_units, decoded).mean() == pytest.approx(
            table.expected_decoding[cell], abs=0.01
        )
        assert correlations(test_voxels, encoded).mean() == pytest.approx(
            table.expected_encoding[cell], abs=0.01
        )


def test_closed_forms_as_written():
    """In voxel space, literally, for readouts that are not orthogonal."""
    draw = np.random.default_rng(0)
    voxels, units = draw.standard_normal((30, 12)), draw.standard_normal((7, 17))
    units[:, 9:12] = 0  # features that the units lack
    noise, m = 1.3, 5
    signal, cross = voxels @ voxels.T, voxels @ units[:, :12].T
    beta = np.linalg.solve(signal + noise**2 * np.eye(30), cross)
    spread = np.einsum("vu,vw,wu->u", beta, signal + noise**2 / m * np.eye(30), beta)
    r2 = np.einsum("vu,vu->u", cross, beta) ** 2 / (spread * (units**2).sum(axis=1))
    np.testing.assert_allclose(
        population.decoding_limit(units, voxels, noise, m), np.sqrt(r2), rtol=1e-10
    )
    many = np.vstack([units, draw.standard_normal((40, 7)) @ units])  # redundant units
    many_cross = np.pad(voxels, ((0, 0), (0, 5))) @ many.T
    share = np.einsum("vu,uw,vw->v", many_cross, np.linalg.pinv(many @ many.T), many_cross)
    np.testing.assert_allclose(
        population.encoding_limit(voxels, many, noise, m),
        np.sqrt(share / ((voxels**2).sum(axis=1) + noise**2 / m)),
        rtol=1e-8,
    )


# ---- the scores that follow --------------------------------------------------------------------


def ridge_scores(preset, seeds=(0, 1, 2), rois=("V1", "V4", "FFA", "LVC", "HVC", "VC")):
    """Decoding and encoding by ridge, mean over layers: (seed, network, roi, score)."""
    out = np.zeros((len(seeds), 2, len(rois), 2))
    for s, seed in enumerate(seeds):
        options = {"preset": preset, "random_state": seed, "n_subjects": 1}
        brain, networks = phantom.load_brain(**options), phantom.load_networks(**options)
        masks = brain["sub-01"]["roi_mask"]
        for n, network in enumerate((A, B)):
            layers = [
                halves(brain, networks, network, layer, "VC")
                for layer in population.LAYERS[network]
            ]
            voxels, test_voxels = (layers[0][split][1] for split in ("train", "test"))
            units, test_units = (
                np.hstack([layer[split][0] for layer in layers]) for split in ("train", "test")
            )
            encoded = [Ridge(50).fit(layer["train"][0], voxels) for layer in layers]
            encoding = np.mean(
                [
                    correlations(test_voxels, fit.predict(layer["test"][0]))
                    for fit, layer in zip(encoded, layers, strict=True)
                ],
                axis=0,
            )
            for r, roi in enumerate(rois):
                mask = masks.sel(roi=roi).values
                decoded = Ridge(50).fit(voxels[:, mask], units).predict(test_voxels[:, mask])
                out[s, n, r] = correlations(test_units, decoded).mean(), encoding[mask].mean()
    return out


def test_flip_decoding_and_encoding_disagree():
    a, b = np.moveaxis(ridge_scores("flip"), 1, 0)
    assert (a - b)[..., 0].min() > 0.03  # every seed and region
    assert (b - a)[..., 1].min() > 0.03


def test_closer_wins_both_ways():
    a, b = np.moveaxis(ridge_scores("closer"), 1, 0)
    assert (a - b).min() > 0.03


def test_equal_networks_score_alike():
    a, b = np.moveaxis(ridge_scores("equal"), 1, 0)
    assert abs((a - b).mean(axis=0)).max() < 0.03
    assert a.min() > 0.15  # and not because nothing is there


def test_null_scores_are_chance():
    scores = ridge_scores("null")
    assert abs(scores).max() < 0.15
    assert abs(scores.mean(axis=(0, 1, 2))).max() < 0.03


@pytest.mark.parametrize(
    ("reach", "private", "n_private", "decoding", "encoding"),
    [(8, 0.2, 10, 0.84, 0.66), (15, 0.3, 10, 0.78, 0.75), (40, 0.5, 20, 0.66, 0.85),
     (40, 0.6, 40, 0.57, 0.82), (40, 0.7, 60, 0.49, 0.80)],
)  # fmt: skip
def test_working_numbers_of_facts_11(reach, private, n_private, decoding, encoding):
    draw = np.random.default_rng(0)
    region, network = np.zeros(60), np.zeros(60 + n_private)
    region[:40] = 1 / np.arange(1, 41)
    network[:reach] = 1 / np.arange(1, reach + 1)
    network *= (1 - private) / network.sum()
    network[60:] = private / n_private
    voxels = draw.standard_normal((500, 60)) * np.sqrt(region / region.sum())
    units = draw.standard_normal((1000, 60 + n_private)) * np.sqrt(network)
    latents = draw.standard_normal((1250, 60 + n_private))
    activation, signal = latents @ units.T, latents[:, :60] @ voxels.T
    train = signal[:1200] + 2 * draw.standard_normal((1200, 500))
    test = signal[1200:] + 2 / np.sqrt(35) * draw.standard_normal((50, 500))
    decoded = Ridge(300).fit(train, activation[:1200]).predict(test)
    found = correlations(activation[1200:], decoded).mean()
    assert found == pytest.approx(decoding, abs=0.035)
    fits = [Ridge(a).fit(activation[:1200], train) for a in (10, 300, 3000)]
    best = max(correlations(f.predict(activation[1200:]), test).mean() for f in fits)
    assert best == pytest.approx(encoding, abs=0.035)
    # finite data stay below the limits, and not far below for the strong decoder
    limit = population.decoding_limit(units, voxels, 2, 35).mean()
    assert found - 0.02 < limit < found + 0.1
    assert best < population.encoding_limit(voxels, units, 2, 35).mean() + 0.02


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "flipp"}, "unknown phantom preset 'flipp'; did you mean 'flip'"),
        ({"size": "smal"}, "unknown phantom size 'smal'; did you mean 'small'"),
        ({"n_tests": 3}, "unknown phantom option 'n_tests'; did you mean 'n_test'"),
        ({"voxels": 3}, "unknown phantom option 'voxels'"),
        ({"n_train": 1}, "n_train=1: a whole number from 2"),
        ({"n_test": 10.5}, r"n_test=10\.5: a whole number"),
        ({"n_subjects": 0}, "n_subjects=0: a whole number from 1"),
        ({"n_units": 40}, "n_units=40: a whole number from 48"),
        ({"noise": -1.0}, r"noise=-1\.0: a standard deviation"),
        ({"noise": "2"}, "noise='2': a number expected"),
        ({"random_state": -1}, "random_state=-1: a whole number from 0"),
        ({"random_state": None}, "random_state=None: a number expected"),
    ],
)
@pytest.mark.parametrize("call", [phantom.load_brain, phantom.load_networks, phantom.truth])
def test_bad_options_are_refused(call, options, message):
    with pytest.raises(ProtocolError, match=message):
        call(**options)


@pytest.mark.slow
def test_full_has_the_size_of_the_god_study():
    brain, networks = phantom.load_brain(size="full"), phantom.load_networks(size="full")
    node = brain["sub-03"]
    assert node["response"].dtype == np.float32
    assert node.sizes["presentation"] == 1200 + 50 * 35
    for roi, count in {"VC": 4500, "V1": 1000, "HVC": 1400}.items():
        assert node["roi_mask"].sel(roi=roi).values.sum() == pytest.approx(count, rel=0.11)
    assert networks[B]["predictions"]["activation"].shape == (1250, 1000)
