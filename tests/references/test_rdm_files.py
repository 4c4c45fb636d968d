"""RDM files of every form read back value by value; pandas, scipy and rsatoolbox as judges."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
import rsatoolbox.io.meadows
import scipy.io
from scipy.spatial.distance import pdist, squareform

import rsacompare as rc
from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.pipeline import run
from rsacompare.study.protocol import load_study

IDS = ["cat", "dog", "ant bear", "äffin", "5"]
N = len(IDS)
RNG = np.random.default_rng(3)
D = [squareform(pdist(RNG.standard_normal((N, 4)))) for _ in range(4)]
UPPER = [d[np.triu_indices(N, 1)] for d in D]


def frame(tree, node, **where):
    """A subject's or layer's RDM as a square table by label: order of pairs does not matter."""
    data = tree[node].to_dataset()
    values = data["rdm"].sel(**where).values
    table = pd.DataFrame(0.0, index=IDS, columns=IDS)
    for a, b, v in zip(data["stimulus_a"].values, data["stimulus_b"].values, values, strict=True):
        table.loc[a, b] = table.loc[b, a] = v
    return table.to_numpy()


def long(d, **columns):
    a, b = np.triu_indices(N, 1)
    ids = np.array(IDS)
    return pd.DataFrame({"stimulus_a": ids[a], "stimulus_b": ids[b], "value": d[a, b], **columns})


# -- text -------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("with_rows", [True, False])
def test_square_text(tmp_path, separator, with_rows):
    file = tmp_path / "sub-07.csv"
    pd.DataFrame(D[0], index=IDS, columns=IDS).to_csv(file, sep=separator, index=with_rows)
    tree = rc.load_rdms(file)
    assert list(tree.children) == ["sub-07"]
    assert tree["sub-07"]["roi"].values.tolist() == ["all"]
    np.testing.assert_array_equal(frame(tree, "sub-07", roi="all"), D[0])
    assert list(json.loads(tree.attrs["inputs"])) == ["sub-07.csv"]


def test_square_text_is_aligned_by_label(tmp_path):
    """Rows in another order than columns: taken by position, the RDM would not be symmetric."""
    table = pd.DataFrame(D[0], index=IDS, columns=IDS).iloc[[3, 0, 4, 1, 2]]
    table.to_csv(tmp_path / "x.csv", encoding="utf-8-sig")  # as a spreadsheet saves it
    np.testing.assert_array_equal(frame(rc.load_rdms(tmp_path / "x.csv"), "x", roi="all"), D[0])


def test_long_text_with_subjects_and_rois(tmp_path):
    parts = [
        long(D[0], subject="s1", roi="V1"),
        long(D[1], subject="s1", roi="IT"),
        long(D[2], subject="s2", roi="V1"),
        long(D[3], subject="s2", roi="IT"),
    ]
    table = pd.concat(parts).sample(frac=1, random_state=0)  # rows in any order
    flip = np.arange(len(table)) % 3 == 0  # and pairs in either
    table.loc[:, ["stimulus_a", "stimulus_b"]] = np.where(
        flip[:, None],
        table[["stimulus_b", "stimulus_a"]].to_numpy(),
        table[["stimulus_a", "stimulus_b"]].to_numpy(),
    )
    table.to_csv(tmp_path / "long.csv", index=False)
    tree = rc.load_dataset(tmp_path / "long.csv")
    np.testing.assert_array_equal(frame(tree, "s1", roi="V1"), D[0])
    np.testing.assert_array_equal(frame(tree, "s1", roi="IT"), D[1])
    np.testing.assert_array_equal(frame(tree, "s2", roi="V1"), D[2])
    np.testing.assert_array_equal(frame(tree, "s2", roi="IT"), D[3])


def test_long_text_with_sessions_and_layers(tmp_path):
    file = tmp_path / "s.tsv"
    both = [long(D[0], session="day 1"), long(D[1], session="day 2")]
    pd.concat(both).to_csv(file, sep="\t", index=False)
    tree = rc.load_rdms(file, name="s1", roi="V1")
    np.testing.assert_array_equal(frame(tree, "s1", roi="V1", session="day 2"), D[1])
    file = tmp_path / "net.csv"
    pd.concat([long(D[0], layer="conv1"), long(D[1], layer="fc/1")]).to_csv(file, index=False)
    net = rc.load_activations(file)
    np.testing.assert_array_equal(frame(net, "net/conv1"), D[0])
    np.testing.assert_array_equal(frame(net, "net/fc.1"), D[1])
    assert net["net/fc.1"].attrs["layer_index"] == 1


# -- named arrays -----------------------------------------------------------------------------


def test_npz_of_layers_rois_and_stacks(tmp_path):
    file = tmp_path / "net.npz"
    np.savez(file, stimulus_id=IDS, conv1=D[0], fc=UPPER[1])
    net = rc.load_activations(file)
    np.testing.assert_array_equal(frame(net, "net/conv1"), D[0])
    np.testing.assert_array_equal(frame(net, "net/fc"), D[1])
    brain = rc.load_dataset(file, name="s1")
    np.testing.assert_array_equal(frame(brain, "s1", roi="fc"), D[1])
    np.savez(file, labels=IDS, rdm=np.array(D[:3]), note="ignored")
    brain = rc.load_rdms(file, roi="V1")
    assert list(brain.children) == ["sub-01", "sub-02", "sub-03"]
    np.testing.assert_array_equal(frame(brain, "sub-02", roi="V1"), D[1])
    np.savez(file, conds=IDS, subject=["a", "b"], V1=np.array(UPPER[:2]), V2=np.array(UPPER[2:]))
    brain = rc.load_rdms(file)
    np.testing.assert_array_equal(frame(brain, "b", roi="V2"), D[3])
    only = rc.load_rdms(file, variable="V2", roi="second")
    np.testing.assert_array_equal(frame(only, "a", roi="second"), D[2])
    np.savez(file, rdm=D[0])
    ids = rc.load_rdms(file, stimulus_id=IDS)
    np.testing.assert_array_equal(frame(ids, "net", roi="all"), D[0])


def test_three_stimuli_have_as_many_pairs(tmp_path):
    """(3, 3) is a square, not three upper triangles."""
    square = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0.0]])
    np.savez(tmp_path / "x.npz", stimulus_id=["a", "b", "c"], rdm=square)
    tree = rc.load_rdms(tmp_path / "x.npz")
    assert tree["x"]["rdm"].values.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("cells", [False, True])
def test_matlab_5(tmp_path, compressed, cells):
    file = tmp_path / "x.mat"
    ids = np.array(IDS, dtype=object) if cells else np.array(IDS)  # a cell array, a char matrix
    held = {"stimuli": ids, "rdm": np.stack(D[:3], axis=-1), "subject": ["a", "b", "c"]}
    scipy.io.savemat(file, held, do_compression=compressed)
    tree = rc.load_rdms(file)
    for name, d in zip("abc", D, strict=False):
        np.testing.assert_array_equal(frame(tree, name, roi="all"), d)
    for shape in ((1, -1), (-1, 1)):  # a row, a column
        scipy.io.savemat(file, {"stimuli": ids, "utv": UPPER[2].reshape(shape)})
        np.testing.assert_array_equal(frame(rc.load_rdms(file), "x", roi="all"), D[2])


def mat73(file, held):
    """A -v7.3 file as MATLAB writes it: 512 bytes before, column order, char codes, references."""
    with h5py.File(file, "w", userblock_size=512) as out:
        refs = out.create_group("#refs#")
        for key, value in held.items():
            if isinstance(value, list):
                places = []
                for i, word in enumerate(value):
                    codes = np.array([[ord(c)] for c in word], dtype=np.uint16)
                    cell = refs.create_dataset(f"{key}{i}", data=codes)
                    cell.attrs["MATLAB_class"] = np.bytes_("char")
                    places.append([cell.ref])
                item = out.create_dataset(key, data=np.array(places, dtype=h5py.ref_dtype))
                item.attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                item = out.create_dataset(key, data=np.asarray(value).T, compression="gzip")
                item.attrs["MATLAB_class"] = np.bytes_("double")
    with open(file, "r+b") as handle:
        handle.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512, b"\0"))


def test_matlab_73(tmp_path):
    file = tmp_path / "x.mat"
    mat73(file, {"stimuli": IDS, "rdm": np.stack(D[:3], axis=-1), "subject": ["a", "b", "c"]})
    tree = rc.load_rdms(file)
    for name, d in zip("abc", D, strict=False):
        np.testing.assert_array_equal(frame(tree, name, roi="all"), d)
    mat73(file, {"stimuli": IDS, "V1": UPPER[0][None], "V2": UPPER[1][None]})
    np.testing.assert_array_equal(frame(rc.load_rdms(file), "x", roi="V2"), D[1])


def test_struct_array_as_the_rsa_toolbox_writes(tmp_path):
    cells = np.array([[("s1", D[0]), ("s2", D[1])]], dtype=[("name", object), ("RDM", object)])
    scipy.io.savemat(tmp_path / "x.mat", {"RDMs": cells})
    tree = rc.load_rdms(tmp_path / "x.mat", stimulus_id=IDS, roi="hIT")
    np.testing.assert_array_equal(frame(tree, "s2", roi="hIT"), D[1])
    nets = rc.load_rdms(tmp_path / "x.mat", of="network", stimulus_id=IDS, roi="model")
    np.testing.assert_array_equal(frame(nets, "s2/model"), D[1])


# -- Meadows ----------------------------------------------------------------------------------


def test_meadows_one_participant_as_rsatoolbox(tmp_path):
    file = tmp_path / "Meadows_myExp_v_v3_cuddly-bunny_2_1D.mat"
    files = [f"stim{i:02d}.jpg" for i in (3, 1, 2, 5, 4)]
    scipy.io.savemat(file, {"rdmutv": UPPER[0], "stimuli": files})
    theirs = rsatoolbox.io.meadows.load_rdms(str(file), sort=False)
    tree = rc.load_rdms(file, roi="judged")
    assert list(tree.children) == list(theirs.rdm_descriptors["participant"]) == ["cuddly-bunny"]
    data = tree["cuddly-bunny"].to_dataset()
    ids = list(dict.fromkeys([*data["stimulus_a"].values[:1], *data["stimulus_b"].values]))
    assert ids == list(theirs.pattern_descriptors["conds"])
    np.testing.assert_array_equal(data["rdm"].values, theirs.get_vectors())


def test_meadows_several_participants_aligned_by_label(tmp_path):
    file = tmp_path / "Meadows_myExp_v_v1_arrangement_1D.mat"
    order = [2, 0, 1, 4, 3]
    files = np.array([f"{c}.png" for c in "abcde"])
    mixed = D[1][np.ix_(order, order)][np.triu_indices(N, 1)]
    held = {
        "rdmutv_able_fox": UPPER[0],
        "stimuli_able_fox": files,
        "rdmutv_calm_owl": UPPER[1],
        "stimuli_calm_owl": files,
    }
    scipy.io.savemat(file, held)
    theirs = rsatoolbox.io.meadows.load_rdms(str(file), sort=False)
    tree = rc.load_rdms(file)
    assert list(tree.children) == list(theirs.rdm_descriptors["participant"])
    ours = np.array([tree[p]["rdm"].values[0] for p in tree.children])
    np.testing.assert_array_equal(ours, theirs.get_vectors())
    # the second saw the stimuli in another order: the same judgement, aligned by label
    held |= {"rdmutv_calm_owl": mixed, "stimuli_calm_owl": files[order]}
    scipy.io.savemat(file, held)
    np.testing.assert_array_equal(rc.load_rdms(file)["calm-owl"]["rdm"].values[0], UPPER[1])


def test_meadows_annotations_of_pairs(tmp_path):
    """Its CSV: a row per pair with stim1_name, stim2_name, label, participation."""
    table = long(D[0]).rename(
        columns={"stimulus_a": "stim1_name", "stimulus_b": "stim2_name", "value": "label"}
    )
    table["participation"] = "cuddly-bunny"
    table["stim1_id"] = "f00"
    table.to_csv(tmp_path / "annotations.csv", index=False)
    tree = rc.load_rdms(tmp_path / "annotations.csv")
    np.testing.assert_array_equal(frame(tree, "cuddly-bunny", roi="all"), D[0])


# -- refusals ---------------------------------------------------------------------------------


def refused(tmp_path, text, kind, message, **options):
    file = tmp_path / "bad.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(kind, match=message) as err:
        rc.load_rdms(file, **options)
    assert str(file) in str(err.value)
    assert "\n" not in str(err.value)


def test_refused_text(tmp_path):
    good = ["stimulus_a,stimulus_b,value", "a,b,1", "a,c,2", "b,c,3"]
    cases = [
        ("", DataError, "no table"),
        ("a,b,c\n1,2,3\n", DataError, r"3 columns and 1 rows"),
        (",a,b\na,0,1\nb,x,0\n", DataError, "row 2, column 'a': a number expected, got 'x'"),
        (",a,a\na,0,1\na,1,0\n", LabelError, "header: stimulus_id has duplicates"),
        (",a,b,c\na,0,1,2\nb,1,0,3\nx,2,3,0\n", LabelError, "1 of 3 stimuli.*'c'"),
        (",a,b,c\na,0,1,2\nb,1,0,3\nc,2,9,0\n", DataError, "not symmetric"),
        (",a,b,c\na,1,.5,.2\nb,.5,1,.3\nc,.2,.3,1\n", DataError, "are these similarities"),
        (
            ",a,b,c\na,0,nan,2\nb,nan,0,3\nc,2,3,0\n",
            DataError,
            "1 of 3 pairs are NaN or infinite .first: rows 0, 1",
        ),
        ("\n".join(good[:3]), LabelError, "1 of 3 pairs are missing.*'b', 'c'"),
        ("\n".join([*good, "c,b,4"]), DataError, "row 4: pair 'c', 'b' stands twice"),
        ("\n".join([*good, "c,c,4"]), DataError, "'c' with itself is 4.0"),
        ("stimulus_a,stimulus_b\na,b", DataError, "no column value"),
        ("\n".join([*good[:-1], "b,c"]), DataError, "row 3: 2 cells, expected 3"),
    ]
    for text, kind, message in cases:
        refused(tmp_path, text, kind, message)
    refused(tmp_path, "\n".join(good), ProtocolError, "text file has its labels", variable="x")
    two = ["subject,stimulus_a,stimulus_b,value"]
    two += [f"s{s},{row}" for s in (1, 2) for row in good[1:]]
    refused(tmp_path, "\n".join(two), ProtocolError, "name = 'x', but the file names", name="x")


def test_refused_arrays(tmp_path):
    file = tmp_path / "x.npz"
    np.savez(file, rdm=D[0])
    with pytest.raises(LabelError, match=r"x\.npz: no stimulus labels.*or give stimulus_id"):
        rc.load_rdms(file)
    np.savez(file, stimulus_id=IDS[:4], rdm=D[0])
    with pytest.raises(DataError, match=r"no RDM of 4 stimuli.*\(5, 5\)"):
        rc.load_rdms(file)
    np.savez(file, stimulus_id=IDS, rdm=np.array(D[:2]), subject=["a"])
    with pytest.raises(LabelError, match="1 names for 2 RDMs"):
        rc.load_rdms(file)
    np.savez(file, stimulus_id=np.arange(5.0), rdm=D[0])
    with pytest.raises(LabelError, match="must be strings"):
        rc.load_rdms(file)
    with pytest.raises(ProtocolError, match="did you mean 'rdm'"):
        rc.load_rdms(file, variable="rdms")
    with pytest.raises(ProtocolError, match="unknown kind of RDM 'brian'; did you mean 'brain'"):
        rc.load_rdms(file, of="brian")
    with pytest.raises(ProtocolError, match=r"read from \.npz, \.mat"):
        rc.load_rdms(tmp_path / "x.txt")
    with pytest.raises(DataError, match="no file"):
        rc.load_rdms(tmp_path / "absent.npz")


# -- in a study -------------------------------------------------------------------------------


def test_a_study_of_text_files(tmp_path):
    """`[brain.X] source = "file.csv"` with options, through compare, against scipy's Spearman."""
    pd.concat([long(D[0], subject="s1"), long(D[1], subject="s2")]).to_csv(
        tmp_path / "brain.csv", index=False
    )
    np.savez(tmp_path / "net.npz", stimulus_id=IDS[::-1], rdm=D[2][::-1, ::-1])
    study = tmp_path / "STUDY.toml"
    study.write_text(
        'name = "files"\nrois = ["V1"]\n[brain.lab]\nsource = "brain.csv"\n'
        'options = { roi = "V1" }\n[networks.net]\nsource = "net.npz"\noptions = { roi = "l1" }\n'
        '[metrics.rsa]\ncomparator = "spearman"\n[inference]\nn_bootstrap = 20\n'
        "n_permutations = 20\n"
    )
    from scipy.stats import spearmanr

    scores = rc.tables(run(load_study(study), tmp_path / "out"))["scores"]
    assert scores[["network", "layer", "roi", "subject"]].values.tolist() == [
        ["net", "l1", "V1", "s1"],
        ["net", "l1", "V1", "s2"],
    ]
    expected = [spearmanr(UPPER[2], UPPER[i])[0] for i in (0, 1)]
    np.testing.assert_allclose(scores["score"], expected, atol=1e-12)
    study.write_text(study.read_text().replace("options = { roi", "options = { rio", 1))
    with pytest.raises(ProtocolError, match=r"\[brain\.lab\].*'rio'; did you mean 'roi'"):
        load_study(study).locate("brain", "lab")
