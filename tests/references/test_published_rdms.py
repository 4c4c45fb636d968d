"""The published RDMs in the right order and orientation: scipy against the reference figures.

The figures were computed once from the files with numpy and scipy, apart from this code
(Spearman with each subject's RDM, mean over subjects).
"""

import json
import os

import h5py
import numpy as np
import pytest
import scipy.io
from scipy.stats import spearmanr

from rsacompare.datasets import load, pictures92, published_rdms
from rsacompare.datasets.load import load_dataset
from rsacompare.datasets.published_rdms import (
    alexnet_a2020,
    algonauts2019,
    kriegeskorte92,
    kriegeskorte92_behaviour,
    kriegeskorte92_models,
)
from rsacompare.errors import DataError, FetchError, ProtocolError
from rsacompare.inference.infer import infer
from rsacompare.metrics.registry import metric
from rsacompare.schema.reading import load_activations, read_tree
from rsacompare.schema.results import tables
from rsacompare.schema.store import write_netcdf
from rsacompare.schema.trees import iter_layers, merge_networks
from rsacompare.study.compare import compare

pytestmark = pytest.mark.skipif(
    not os.environ.get("RSACOMPARE_DATA"),
    reason="RSACOMPARE_DATA is not set: the published files are not here",
)


@pytest.fixture(scope="module")
def it4():
    return kriegeskorte92()


@pytest.fixture(scope="module")
def algonauts():
    return algonauts2019()


@pytest.fixture(scope="module")
def brains(it4, algonauts):
    """{EVC, IT, IT4: (subject, pair)}."""
    return {
        "EVC": stack(algonauts, "EVC"),
        "IT": stack(algonauts, "IT"),
        "IT4": np.array([n["rdm"].sel(roi="hIT").mean("session") for n in it4.children.values()]),
    }


def stack(tree, roi):
    return np.array([node["rdm"].sel(roi=roi).values for node in tree.children.values()])


def mean_spearman(vector, rdms):
    return np.mean([spearmanr(vector, rdm)[0] for rdm in rdms])


def test_sessions_of_the_four_subjects(it4):
    assert list(it4.children) == ["BE", "KO", "SN", "TI"]
    found = [
        spearmanr(*node["rdm"].sel(roi="hIT").transpose("session", "pair").values)[0]
        for node in it4.children.values()
    ]
    np.testing.assert_allclose(found, [0.277, 0.095, 0.382, 0.120], atol=5e-4)


@pytest.mark.parametrize(
    ("model", "expected"),
    [("animacy", (0.020, 0.255, 0.386)), ("monkeyIT", (0.080, 0.272, 0.296))],
)
def test_models_of_the_same_pictures(brains, model, expected):
    models = scipy.io.loadmat(load.fetch("kriegeskorte92/92_modelRDMs.mat"))["Models"][0]
    rdm = next(m["RDM"] for m in models if str(m["name"][0]) == model)
    vector = rdm[np.triu_indices(92, 1)]
    found = [mean_spearman(vector, brains[k]) for k in ("EVC", "IT", "IT4")]
    np.testing.assert_allclose(found, expected, atol=5e-4)


@pytest.fixture(scope="module")
def models():
    return load_activations("kriegeskorte92_models")


@pytest.mark.parametrize(
    ("model", "expected"),
    [("animacy", (0.020, 0.255, 0.386)), ("monkeyIT", (0.080, 0.272, 0.296))],
)
def test_model_networks_score_the_reference_figures(models, brains, model, expected):
    vector = models[f"{model}/model"]["rdm"].values
    found = [mean_spearman(vector, brains[k]) for k in ("EVC", "IT", "IT4")]
    np.testing.assert_allclose(found, expected, atol=5e-4)


def test_models_are_networks_without_a_hierarchy(models):
    assert list(models.children) == [
        *("animacy", "FaceBodyManmadeNatobj", "monkeyIT", "EVA"),
        *("HMAX", "V1", "Silhouette", "RADON"),
    ]
    for _, layer, data in iter_layers(models):
        assert layer == "model"
        assert data.attrs["hierarchy"] == 0
        assert "depth has no meaning" in data.attrs["note"]
    two = kriegeskorte92_models(models=["V1", "animacy"])
    assert list(two.children) == ["V1", "animacy"]
    np.testing.assert_array_equal(two["V1/model"]["rdm"], models["V1/model"]["rdm"])
    with pytest.raises(ProtocolError, match="did you mean 'animacy'"):
        kriegeskorte92_models(models=["animcy"])
    with pytest.raises(ProtocolError, match="no models; there are animacy"):
        kriegeskorte92_models(models=[])


def test_models_stand_beside_brains_as_targets(models):
    """The same RDMs as ROIs: a network's score is its Spearman correlation with the model."""
    targets = load_dataset("kriegeskorte92_models", models=["animacy", "V1"])
    assert targets["models"]["roi"].values.tolist() == ["animacy model", "V1 model"]
    brains = {"hIT": load_dataset("kriegeskorte92"), "models": targets}
    network = load_activations("alexnet_a2020")
    scores = compare(network, brains, [metric("rsa", comparator="spearman")]).scores["score"]
    for name in ("animacy", "V1"):
        rdm = models[f"{name}/model"]["rdm"].values
        for layer in ("conv1", "fc7"):
            want = spearmanr(rdm, network[f"alexnet_a2020/{layer}"]["rdm"]).statistic
            got = scores.sel(subject="models.models", roi=f"{name} model")
            got = got.sel(layer=f"alexnet_a2020/{layer}").item()
            assert got == pytest.approx(want, abs=1e-12)
    assert scores.sel(subject="models.models", roi="hIT").isnull().all()


def test_monkey_it_is_that_of_the_paper(models):
    figure = scipy.io.loadmat(load.fetch(published_rdms.PICTURES))["RDMs_mIT_hIT_fig1"][0]
    monkey = next(r["RDM"].ravel() for r in figure if str(r["name"][0]).startswith("mIT"))
    np.testing.assert_allclose(models["monkeyIT/model"]["rdm"].values, monkey, atol=1e-6)


def test_judgements_by_hand():
    tree = load_dataset("kriegeskorte92_behaviour")
    file = scipy.io.loadmat(load.fetch(published_rdms.JUDGEMENTS))["rdms_behav_92"][0]
    assert list(tree.children) == [f"sub-{i:02d}" for i in range(1, 17)]
    for i in (0, 9, 15):
        assert str(file[i]["name"][0]) == f"simJudge | subject{i + 1}"
        data = tree[f"sub-{i + 1:02d}"]["rdm"].sel(roi="behaviour")
        np.testing.assert_array_equal(data, file[i]["RDM"][np.triu_indices(92, 1)])
    animacy = load_activations("kriegeskorte92_models")["animacy/model"]["rdm"].values
    expected = np.mean([spearmanr(animacy, f["RDM"][np.triu_indices(92, 1)])[0] for f in file])
    assert mean_spearman(animacy, stack(tree, "behaviour")) == pytest.approx(expected, abs=1e-12)
    assert expected == pytest.approx(0.378, abs=5e-4)  # computed apart from this code


def test_behaviour_beside_brains_and_models_contrasted(it4):
    """The study that the set is made for: two data sets, models against models and a network."""
    judged = load_dataset("kriegeskorte92_behaviour")
    networks = kriegeskorte92_models(models=["animacy", "V1"])
    networks = merge_networks([networks, alexnet_a2020()])
    brains = {"brain": it4, "judged": judged}
    comparison = compare(networks, brains, {"rsa": metric("rsa", comparator="spearman")})
    score = comparison.scores["score"].sel(metric="rsa", layer="animacy/model")
    assert float(score.sel(roi="hIT").mean()) == pytest.approx(0.386, abs=5e-4)
    assert float(score.sel(roi="behaviour").mean()) == pytest.approx(0.378, abs=5e-4)
    assert int(score.sel(roi="behaviour").notnull().sum()) == 16
    pairs = [("animacy", "V1"), ("animacy", "alexnet_a2020")]
    result = infer(comparison, contrast=pairs, n_bootstrap=50, n_permutations=50)
    rows = tables(result)["contrasts"]
    assert set(rows["pairing"]) == {"ordinal", "mean", "best"}, "depth has no meaning for a model"
    row = rows[(rows.roi == "hIT") & (rows.pairing == "mean") & (rows.network_b == "V1")].iloc[0]
    other = comparison.scores["score"].sel(metric="rsa", layer="V1/model", roi="hIT")
    assert row.difference == pytest.approx(0.386 - float(other.mean()), abs=5e-4)
    notes = " ".join(json.loads(result.attrs["notes"]))
    assert "no depth pairing of animacy and alexnet_a2020" in notes


def test_animacy_from_our_own_categories(it4, brains):
    """Ties the categories to the pairs by label: an order that is off by one fails."""
    category = json.loads(it4.attrs["categories"])
    node = it4["BE"]
    animate = {s: "object" not in c for s, c in category.items()}
    vector = [
        float(animate[a] != animate[b])
        for a, b in zip(node["stimulus_a"].values, node["stimulus_b"].values, strict=True)
    ]
    found = [mean_spearman(vector, brains[k]) for k in ("EVC", "IT", "IT4")]
    np.testing.assert_allclose(found, [0.020, 0.255, 0.386], atol=5e-4)


def test_categories_agree_with_the_words_of_the_file(it4):
    words = {
        "human bodypart": "human body part",
        "human face": "human face",
        "nonhuman bodypart": "animal body part",
        "nonhuman face": "animal face",
        "natural inanimate": "natural object",
        "artificial inanimate": "artificial object",
    }
    file = scipy.io.loadmat(load.fetch(published_rdms.PICTURES))["stimuli_92objs"][0]
    expected = {f"stim{i:02d}": words[str(p["category"].item())] for i, p in enumerate(file, 1)}
    assert json.loads(it4.attrs["categories"]) == expected


@pytest.mark.parametrize(
    ("file", "layer", "expected"),
    [
        ("alexnet_w1a2", "conv4", (-0.0076, 0.0648, 0.1209)),
        ("resnet50_w1a2", "res5c", (0.0455, 0.1338, 0.1729)),
        ("squeezenet", "fire3", (0.1948, 0.1407, 0.0998)),
    ],
)
def test_activations_through_the_registry(brains, file, layer, expected):
    tree = load_activations(load.resolve(f"activations92/{file}.npz"))
    data = tree[f"{file}/{layer}"].to_dataset()
    assert data["stimulus_id"].values.tolist() == pictures92.STIMULUS_ID
    rdm = 1 - np.corrcoef(data["activation"].values.astype(np.float64))
    vector = rdm[np.triu_indices(92, 1)]
    found = [mean_spearman(vector, brains[k]) for k in ("EVC", "IT", "IT4")]
    np.testing.assert_allclose(found, expected, atol=6e-5)


def test_human_it_of_the_paper_is_the_mean_of_these_subjects(brains):
    """The upper triangle of figure 1's human IT RDM is their average over subjects, sessions."""
    figure = scipy.io.loadmat(load.fetch(published_rdms.PICTURES))["RDMs_mIT_hIT_fig1"][0]
    human = next(r["RDM"].ravel() for r in figure if str(r["name"][0]).startswith("hIT"))
    np.testing.assert_allclose(brains["IT4"].mean(axis=0), human, atol=1e-6)


def test_algonauts_by_hand(algonauts):
    """Pair (i, j) of subject k is the entry of the HDF5 array at [i, j, k]."""
    with h5py.File(load.fetch(published_rdms.ALGONAUTS)) as file:
        raw = {roi: file[f"{roi}_RDMs"][()] for roi in ("EVC", "IT")}
    assert list(algonauts.children) == [f"sub-{i:02d}" for i in range(1, 16)]
    for k, node in enumerate(algonauts.children.values()):
        for roi in ("EVC", "IT"):
            row = node["rdm"].sel(roi=roi)
            for pair in (0, 90, 91, 2000, 4185):
                i = int(row["stimulus_a"].values[pair][4:]) - 1
                j = int(row["stimulus_b"].values[pair][4:]) - 1
                assert row.values[pair] == raw[roi][i, j, k]


def test_alexnet_pairs_are_in_row_order(brains):
    """fc8 of this AlexNet resembles SqueezeNet's logits only when its pairs are read by rows."""
    tree = alexnet_a2020()
    layers = [(layer, data.attrs["depth"]) for _, layer, data in iter_layers(tree)]
    assert [name for name, _ in layers] == [
        *("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8", "prob")
    ]
    np.testing.assert_allclose([depth for _, depth in layers], np.arange(9) / 8)
    squeezenet = load_activations(load.fetch("activations92/squeezenet.npz"))
    logits = squeezenet["squeezenet/logits"]["activation"].values
    other = (1 - np.corrcoef(logits))[np.triu_indices(92, 1)]
    fc8 = tree["alexnet_a2020/fc8"]["rdm"].values
    assert spearmanr(fc8, other)[0] > 0.6
    square = np.zeros((92, 92))
    square[np.triu_indices(92, 1)] = fc8
    by_columns = square.T[np.tril_indices(92, -1)][np.lexsort(np.triu_indices(92, 1))]
    assert abs(spearmanr(by_columns, other)[0]) < 0.1


def test_alexnet_distances_are_squared_euclidean():
    tree = alexnet_a2020()
    centre = np.eye(92) - 1 / 92
    for _, layer, data in iter_layers(tree):
        square = np.zeros((92, 92))
        square[np.triu_indices(92, 1)] = data["rdm"].values
        square += square.T
        eigenvalues = np.linalg.eigvalsh(-0.5 * centre @ square @ centre)
        assert eigenvalues[0] > -1e-6 * eigenvalues[-1], layer
        squares = np.linalg.eigvalsh(-0.5 * centre @ square**2 @ centre)
        assert squares[0] < -1e-3 * squares[-1], layer


def test_options_and_names():
    assert kriegeskorte92(sessions=[2])["KO"]["rdm"].sizes["session"] == 1
    both, second = kriegeskorte92()["KO"]["rdm"], kriegeskorte92(sessions=[2])["KO"]["rdm"]
    np.testing.assert_array_equal(second.sel(session=2), both.sel(session=2))
    with pytest.raises(ProtocolError, match=r"sessions \[3\]"):
        kriegeskorte92(sessions=[3])
    fc = alexnet_a2020(variant="rpwavgFeat")
    assert list(fc["alexnet_a2020"].children) == ["fc6", "fc7", "fc8", "prob"]
    with pytest.raises(ProtocolError, match="did you mean 'complete'"):
        alexnet_a2020(variant="complet")
    assert load_dataset("kriegeskorte92").attrs["title"] == kriegeskorte92().attrs["title"]
    assert list(load_activations("alexnet_a2020").children) == ["alexnet_a2020"]


@pytest.mark.parametrize(
    "make",
    [
        kriegeskorte92,
        kriegeskorte92_behaviour,
        kriegeskorte92_models,
        algonauts2019,
        alexnet_a2020,
    ],
)
def test_attributes_and_round_trip(make, tmp_path):
    tree = make()
    inputs = json.loads(tree.attrs["inputs"])
    for name, sha in inputs.items():
        assert sha == load.file_sha256(load.fetch(name))
    assert tree.attrs["simulated"] == 0
    assert tree.attrs["licence"]
    write_netcdf(tree, tmp_path / "tree.nc")
    assert read_tree(tmp_path / "tree.nc").identical(tree)


def test_algonauts_says_that_it_may_not_be_passed_on(algonauts):
    assert algonauts.attrs["licence"] == "none stated: local use only, do not redistribute"


def test_algonauts_without_the_pictures_has_no_categories(monkeypatch, tmp_path):
    source = load.fetch(published_rdms.ALGONAUTS)
    (tmp_path / "algonauts2019").mkdir()
    (tmp_path / published_rdms.ALGONAUTS).symlink_to(source)
    monkeypatch.setenv("RSACOMPARE_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert "categories" not in algonauts2019().attrs


def test_broken_files_say_so(monkeypatch, tmp_path):
    """Reached only past the checksum: a cut file, an absent variable, an absent field."""
    cut = tmp_path / "cut.mat"
    cut.write_bytes(load.fetch(published_rdms.HUMAN_IT).read_bytes()[:20_000])
    other = tmp_path / "other.mat"
    scipy.io.savemat(other, {"RDM": np.eye(3)})
    shapes = tmp_path / "shapes.h5"
    with h5py.File(shapes, "w") as file:
        file["EVC_RDMs"] = np.zeros((92, 92, 2))
        file["IT_RDMs"] = np.zeros((2, 92, 92))
    partial = tmp_path / "partial.h5"
    with h5py.File(partial, "w") as file:
        file["EVC_RDMs"] = np.zeros((92, 92, 2))
    fields, names, sizes = (tmp_path / f"{n}.mat" for n in ("fields", "names", "sizes"))
    for file, field, name, n in (
        (fields, "D", "hIT | BE | Session: 1", 92),
        (names, "RDM", "V1 | BE", 92),
        (sizes, "RDM", "hIT | BE | Session: 1", 91),
    ):
        cells = np.array([[(name, np.zeros((n, n)))]], dtype=[("name", object), (field, object)])
        scipy.io.savemat(file, {"RDMs": cells})
    cases = [
        (kriegeskorte92, cut, "cannot be read as MATLAB"),
        (kriegeskorte92, other, "unknown variable 'RDMs'; did you mean 'RDM'"),
        (kriegeskorte92, names, r"RDM named 'V1 \| BE'"),
        (kriegeskorte92, fields, "unknown field 'RDM'"),
        (lambda: kriegeskorte92(sessions=[1]), sizes, "does not fit 92 stimuli"),
        (algonauts2019, shapes, r"expected \(92, 92, subject\)"),
        (algonauts2019, partial, "unknown variable 'IT_RDMs'"),
        (algonauts2019, cut, "cannot be read as HDF5"),
        (alexnet_a2020, other, "unknown variable 'modelRDMs'"),
        (kriegeskorte92_behaviour, other, "unknown variable 'rdms_behav_92'"),
        (kriegeskorte92_models, cut, "cannot be read as MATLAB"),
    ]
    pictures = load.fetch(published_rdms.PICTURES)
    for make, file, message in cases:
        given = {published_rdms.PICTURES: pictures}
        monkeypatch.setattr(
            published_rdms, "fetch", lambda name, given=given, file=file: given.get(name, file)
        )
        with pytest.raises(DataError, match=message):
            make()


def test_wrong_contents_are_caught_by_the_checksum(monkeypatch, tmp_path):
    (tmp_path / "kriegeskorte92").mkdir()
    (tmp_path / published_rdms.HUMAN_IT).write_bytes(b"MATLAB 5.0")
    monkeypatch.setenv("RSACOMPARE_DATA", str(tmp_path))
    with pytest.raises(FetchError, match="sha256"):
        kriegeskorte92()
