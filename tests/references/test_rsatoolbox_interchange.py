"""Our trees as rsatoolbox's objects and back: its own comparisons judge that nothing moved."""

import sys

import numpy as np
import pytest
from rsatoolbox.data import Dataset, TemporalDataset
from rsatoolbox.rdm import RDMs, calc_rdm, compare

import rsacompare as rc
from rsacompare.errors import DataError, LabelError, MissingDependency, ProtocolError
from rsacompare.schema.reading import read_tree
from rsacompare.schema.store import write_netcdf

RNG = np.random.default_rng(5)
IDS = ["d", "a", "c", "b", "e", "f"]
PATTERNS = RNG.standard_normal((6, 6, 8))


def distances(k):
    rdm = 1 - np.corrcoef(PATTERNS[k])
    np.fill_diagonal(rdm, 0)  # to the last bit
    return rdm


def test_rdms_of_brains_there_and_back(tmp_path):
    tree = rc.rdms(
        {s: {"V1": distances(k), "IT": distances(k + 1)} for s, k in (("s1", 0), ("s2", 2))},
        stimulus_id=IDS,
        attrs={
            "title": "A lab",
            "distance": "correlation",
            "categories": dict.fromkeys(IDS[:5], "face") | {"f": "house"},
        },
    )
    theirs = rc.to_rsatoolbox(tree)
    assert isinstance(theirs, RDMs)
    assert theirs.dissimilarity_measure == "correlation"
    assert theirs.descriptors["title"] == "A lab"
    assert theirs.rdm_descriptors["subject"] == ["s1", "s1", "s2", "s2"]
    assert theirs.rdm_descriptors["roi"] == ["V1", "IT"] * 2
    assert theirs.pattern_descriptors["stimulus_id"] == IDS
    assert theirs.pattern_descriptors["category"][-2:] == ["face", "house"]
    np.testing.assert_allclose(theirs.subset("roi", "IT").get_matrices()[1], distances(3))
    # patterns sorted by rsatoolbox: the labels move with the values
    theirs.sort_by(stimulus_id="alpha")
    back = rc.from_rsatoolbox(theirs)
    again = rc.to_rsatoolbox(back)
    assert again == theirs
    subset = again.subset("subject", "s2").subset("roi", "V1").get_matrices()[0]
    order = np.argsort(IDS)
    np.testing.assert_allclose(subset, distances(2)[np.ix_(order, order)], atol=1e-12)
    write_netcdf(back, tmp_path / "x.nc")
    assert read_tree(tmp_path / "x.nc").identical(back)


def test_sessions_and_descriptors_of_their_own(tmp_path):
    theirs = RDMs(
        np.array([distances(k) for k in (3, 0, 2, 1)]),
        descriptors={"experiment": "x", "tr": np.float64(2.5)},
        rdm_descriptors={
            "participant": ["p2", "p1", "p2", "p1"],
            "session": [1, 1, 2, 2],
            "quality": [0.3, 0.1, 0.4, 0.2],
        },
        pattern_descriptors={"conds": IDS, "animate": np.array([1, 0, 1, 1, 0, 0])},
    )
    tree = rc.from_rsatoolbox(theirs)
    assert list(tree.children) == ["p2", "p1"]
    assert tree["p1"]["rdm"].dims == ("roi", "session", "pair")
    one = tree["p1"]["rdm"].sel(roi="all", session=2).values
    np.testing.assert_allclose(one, distances(1)[np.triu_indices(6, 1)])
    assert tree.attrs["experiment"] == "x"
    write_netcdf(tree, tmp_path / "x.nc")  # what is kept can be stored
    back = rc.to_rsatoolbox(read_tree(tmp_path / "x.nc"))
    assert back.descriptors["tr"] == 2.5
    assert back.pattern_descriptors["animate"] == [1, 0, 1, 1, 0, 0]
    rows = zip(*(back.rdm_descriptors[k] for k in ("subject", "session", "quality")), strict=True)
    assert list(rows) == [("p2", 1, 0.3), ("p2", 2, 0.4), ("p1", 1, 0.1), ("p1", 2, 0.2)]
    np.testing.assert_allclose(
        back.get_matrices(), [distances(3), distances(2), distances(0), distances(1)]
    )


def test_rdms_of_networks():
    tree = rc.rdms({"net": {"a/b": distances(0), "c": distances(1)}}, stimulus_id=IDS, of="network")
    theirs = rc.to_rsatoolbox(tree)
    assert theirs.rdm_descriptors["layer"] == ["a.b", "c"]
    assert theirs.rdm_descriptors["depth"] == [0.0, 1.0]
    back = rc.from_rsatoolbox(theirs, of="network")
    assert back["net/c"].attrs["depth"] == 1.0
    np.testing.assert_array_equal(back["net/a.b"]["rdm"], tree["net/a.b"]["rdm"])


def test_scores_of_a_comparison_are_theirs():
    """What compare scored, handed over: rsatoolbox gives the same numbers."""
    brain = rc.rdms({s: {"V1": distances(k)} for k, s in enumerate("xy")}, stimulus_id=IDS)
    acts = rc.activations({"net": {"l0": PATTERNS[3], "l1": PATTERNS[4]}}, stimulus_id=IDS)
    metrics = {
        "tau": rc.metric("rsa", comparator="tau-a"),
        "rho": rc.metric("rsa", comparator="rho-a"),
    }
    comparison = rc.compare(acts, brain, metrics)
    theirs = rc.to_rsatoolbox(comparison, metric="tau")
    assert theirs.n_rdm == 4
    nets, brains = theirs.subset("of", "network"), theirs.subset("of", "brain")
    assert nets.rdm_descriptors["layer"] == ["l0", "l1"]
    assert brains.rdm_descriptors["subject"] == ["x", "y"]
    ours = comparison.scores["score"].sel(metric="tau", roi="V1").transpose("layer", "subject")
    np.testing.assert_allclose(compare(nets, brains, "tau-a"), ours, atol=1e-12)
    with pytest.raises(ProtocolError, match=r"name one metric.*'tau', 'rho'"):
        rc.to_rsatoolbox(comparison)
    with pytest.raises(ProtocolError, match="none of its cells"):
        rc.to_rsatoolbox(comparison, metric="decoding")


def test_responses_there_and_back():
    masks = {"V1": np.arange(8) < 5, "LVC": np.arange(8) < 7}
    rows = np.concatenate([PATTERNS[0], PATTERNS[1]])
    tree = rc.responses(
        {"s1": rows, "s2": rows + 1},
        stimulus_id=IDS * 2,
        split=["train"] * 6 + ["test"] * 6,
        roi_mask=masks,
    )
    theirs = rc.to_rsatoolbox(tree)
    assert list(theirs) == ["s1", "s2"]
    assert theirs["s2"].descriptors == {"subject": "s2"}
    # their RDM of one ROI and split, from their own selection, is that of the numbers that went in
    part = theirs["s2"].subset_obs("split", "test").subset_channel("roi_V1", 1)
    found = calc_rdm(part, method="euclidean", descriptor="stimulus_id")
    order = [IDS.index(s) for s in found.pattern_descriptors["stimulus_id"]]
    expected = ((PATTERNS[1][order][:, None, :5] - PATTERNS[1][order][None, :, :5]) ** 2).mean(-1)
    np.testing.assert_allclose(found.get_matrices()[0], expected, atol=1e-12)
    back = rc.from_rsatoolbox(theirs)
    for subject in ("s1", "s2"):
        assert back[subject].to_dataset().identical(tree[subject].to_dataset())


def test_datasets_of_theirs():
    data = Dataset(
        PATTERNS[0],
        descriptors={"subject": "s9"},
        obs_descriptors={"conds": IDS, "run": [0, 0, 1, 1, 2, 2]},
        channel_descriptors={"roi": ["V1"] * 3 + ["V2"] * 5, "x": np.arange(8)},
    )
    tree = rc.from_rsatoolbox(data)
    node = tree["s9"].to_dataset()
    assert node["roi_mask"].sel(roi="V2").values.tolist() == [False] * 3 + [True] * 5
    assert node["run"].dims == ("presentation",)
    assert node["x"].dims == ("neuroid",)
    np.testing.assert_array_equal(node["response"], PATTERNS[0])
    mixed = Dataset(PATTERNS[1][::-1].copy(), obs_descriptors={"conds": IDS[::-1]})
    net = rc.from_rsatoolbox({"net/l0": data, "net/l1": mixed}, of="network")
    np.testing.assert_array_equal(net["net/l1"]["activation"], PATTERNS[1])
    assert list(rc.to_rsatoolbox(net)) == ["net/l0", "net/l1"]
    several = rc.from_rsatoolbox([mixed, mixed])
    assert list(several.children) == ["brain-01", "brain-02"]


def test_refusals():
    rows = RDMs(np.array([distances(0), distances(1)]), pattern_descriptors={"conds": IDS})
    assert list(rc.from_rsatoolbox(rows).children) == ["brain-01", "brain-02"]
    bare = RDMs(distances(0)[None])
    with pytest.raises(LabelError, match=r"no labels of stimuli; there are none.*stimulus_id"):
        rc.from_rsatoolbox(bare)
    given = rc.from_rsatoolbox(bare, stimulus_id=IDS)
    assert given["brain-01"]["stimulus_a"].values[0] == "d"
    with pytest.raises(LabelError, match="5 stimulus labels for 6 rows"):
        rc.from_rsatoolbox(bare, stimulus_id=IDS[:5])
    with pytest.raises(LabelError, match="no labels of stimuli called 'picture'"):
        rc.from_rsatoolbox(rows, stimulus_id="picture")
    twins = RDMs(
        np.array([distances(0), distances(1)]),
        rdm_descriptors={"subject": ["s", "s"], "area": ["V1", "V2"]},
        pattern_descriptors={"conds": IDS},
    )
    with pytest.raises(LabelError, match=r"two RDMs are of s, all.*'area'"):
        rc.from_rsatoolbox(twins)
    with pytest.raises(LabelError, match="'aera'; did you mean 'area'"):
        rc.from_rsatoolbox(twins, part="aera")
    assert rc.from_rsatoolbox(twins, part="area")["s"]["roi"].values.tolist() == ["V1", "V2"]
    holes = distances(0)
    holes[0, 1] = holes[1, 0] = np.nan
    with pytest.raises(DataError, match="1 of 15 pairs are NaN"):
        rc.from_rsatoolbox(RDMs(holes[None], pattern_descriptors={"conds": IDS}))
    timed = TemporalDataset(np.zeros((6, 3, 4)), obs_descriptors={"conds": IDS})
    with pytest.raises(DataError, match=r"TemporalDataset has a time axis.*first"):
        rc.from_rsatoolbox(timed)
    with pytest.raises(ProtocolError, match=r"takes RDMs, a Dataset.*got ndarray"):
        rc.from_rsatoolbox(np.zeros(3))
    with pytest.raises(ProtocolError, match=r"takes a tree of rsacompare.*got dict"):
        rc.to_rsatoolbox({})


def test_other_stimuli_are_not_put_into_one_object():
    one = rc.rdms({"s1": {"V1": distances(0)}}, stimulus_id=IDS)
    other = rc.rdms({"s2": {"V1": distances(1)}}, stimulus_id=[*IDS[:5], "g"])
    one["s2"] = other["s2"]
    with pytest.raises(LabelError, match="RDM of s2, V1 is over other stimuli"):
        rc.to_rsatoolbox(one)


def test_without_rsatoolbox_the_line_to_type_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "rsatoolbox", None)
    for call in (rc.to_rsatoolbox, rc.from_rsatoolbox):
        with pytest.raises(MissingDependency, match=r"pip install 'rsacompare\[rsatoolbox\]'"):
            call(None)
