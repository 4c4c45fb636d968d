"""Two believable results, made with numpy: what `infer` would give, without running it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from rsacompare.reporting.pages import report
from rsacompare.schema.results import CONTRAST_COLUMNS, add_extra, layer_coords


def _meaning(label, sentence, **more):
    return {
        "label": label,
        "unit": "correlation r",
        "chance": 0.0,
        "minimum": -1.0,
        "maximum": 1.0,
        "higher_is_better": True,
        "sentence": sentence,
        "ceiling": "",
        "citations": [],
        "options": {},
    } | more


MEANINGS = {
    "decoding": _meaning(
        "decoding",
        "Each unit's activation is predicted from the voxels of an ROI; the score is the "
        "correlation of predicted and true activation over test stimuli, averaged over units.",
        ceiling="Square root of the reliability of the averaged prediction for this decoder; it "
        "does not bound a better decoder.",
        citations=["Horikawa T, Kamitani Y (2017). Nature Communications 8:15037."],
        options={"n_voxels": 500, "method": "ols"},
    ),
    "rsa": _meaning(
        "RSA",
        "Dissimilarities of all pairs of stimuli in a layer are compared with those in an ROI.",
        unit="Spearman ρ",
        ceiling="Lower and upper bound by Nili et al. (2014).",
        citations=["Kriegeskorte N, Mur M, Bandettini P (2008). Front Syst Neurosci 2:4."],
        options={"distance": "correlation", "comparator": "spearman"},
    ),
    "encoding": _meaning(
        "encoding",
        "Each voxel's response is predicted from a layer's units by ridge regression; the score "
        "is the correlation over test stimuli, averaged over voxels.",
        ceiling="Square root of the reliability of a voxel's mean response.",
        citations=["Naselaris T et al. (2011). NeuroImage 56:400–410."],
        options={"alphas": [1.0, 10.0, 100.0]},
    ),
}
MEANINGS |= {
    name: _meaning(name.upper(), f"Gram by {name}.") for name in ("cka", "pcm", "procrustes")
}


def fake_result(
    metrics, networks, roi_subjects, pairs, rng, *, effect=0.05, per_layer_ceiling=(), simulated=0
):
    """A Dataset as `infer` returns it.

    `networks`: {name: layer names}; `roi_subjects`: {roi: subjects}.
    """
    flat = [
        (n, name, {"layer_index": i, "depth": (i + 1) / len(names)})
        for n, names in networks.items()
        for i, name in enumerate(names)
    ]
    coords = layer_coords(flat)
    subjects = sorted({s for own in roi_subjects.values() for s in own})
    rois = list(roi_subjects)
    shape = (len(metrics), len(subjects), len(rois), len(flat))
    depth, network = coords["depth"][1], coords["network"][1]
    order = {n: i for i, n in enumerate(networks)}
    score = np.full(shape, np.nan)
    low, high = np.full(shape, np.nan), np.full(shape, np.nan)
    for m, metric in enumerate(metrics):
        tilt = -1 if metric == "encoding" else 1
        for r, roi in enumerate(rois):
            peak = (r + 0.5) / len(rois)
            truth = 0.22 - 0.25 * (np.array(depth) - peak) ** 2
            shift = [
                tilt * effect * (len(order) / 2 - 0.5 - order[n]) * (1 - peak) for n in network
            ]
            for s, subject in enumerate(subjects):
                if subject in roi_subjects[roi]:
                    noise = rng.normal(0, 0.03) + rng.normal(0, 0.015, len(flat))
                    score[m, s, r] = truth + shift + noise
                    if metric in per_layer_ceiling:
                        low[m, s, r] = high[m, s, r] = (
                            0.45 + 0.1 * np.array(depth) + rng.normal(0, 0.02, len(flat))
                        )
                    else:
                        low[m, s, r], high[m, s, r] = 0.35 + 0.1 * peak, 0.45 + 0.1 * peak
    dims = ("metric", "subject", "roi", "layer")
    n = np.isfinite(score).sum(axis=1)
    mean, sd = np.nanmean(score, axis=1), np.nanstd(score, axis=1, ddof=1)
    se = np.hypot(sd / np.sqrt(n), 0.015)
    half = 2.78 * se
    p = np.clip(np.exp(-np.maximum(mean, 0) / 0.012), 1 / 1001, 1)
    p_fwer = np.clip(p * 20, 1 / 1001, 1)
    cells = ("metric", "roi", "layer")
    data = xr.Dataset(
        {
            "score": (dims, score),
            "ceiling_low": (dims, low),
            "ceiling_high": (dims, high),
            "n_targets": (dims, np.where(np.isfinite(score), 100.0, np.nan)),
            "mean_score": (cells, mean),
            "se": (cells, se),
            "p_null": (cells, p),
            "p_null_fwer": (cells, p_fwer),
            "group_ceiling_low": (cells, np.nanmean(low, axis=1)),
            "group_ceiling_high": (cells, np.nanmean(high, axis=1)),
            "ci": ((*cells, "ci_bound"), np.stack([mean - half, mean + half], axis=-1)),
            "boot": ((*cells, "draw"), rng.normal(size=(*mean.shape, 3)).astype("f4")),
            "null": ((*cells, "permutation"), rng.normal(size=(*mean.shape, 3)).astype("f4")),
        },
        coords={"metric": metrics, "subject": subjects, "roi": rois, "ci_bound": ["lower", "upper"]}
        | coords,
    )
    rows = list(_contrast_rows(data, pairs, networks))
    family = {}
    for row in rows:
        family.setdefault((row["metric"], row["pairing"]), []).append(row)
    for members in family.values():
        running = 0.0
        for rank, row in enumerate(sorted(members, key=lambda r: r["p"])):
            running = max(running, min(1.0, row["p"] * (len(members) - rank)))
            row["p_fwer"] = running
            sign = "a" if row["difference"] > 0 else "b"
            row["verdict"] = (
                sign
                if running < 0.05
                else "equivalent"
                if row["p_equivalence"] < 0.05
                else "undecided"
            )
            row["p_beyond"] = row["p"] / 2
    names = (*CONTRAST_COLUMNS, "se", "dof", "bound", "p_beyond", "note")
    data = data.assign(
        {f"contrast_{c}": ("contrast", np.array([row[c] for row in rows])) for c in names}
    )
    per_roi = {r: len(own) for r, own in roi_subjects.items()}
    data.attrs = {
        "title": "Two networks and a phantom" if simulated else "Four networks, human EVC and IT",
        "question": f"Is {pairs[0][0]} closer to the brain than {pairs[0][1]}?",
        "simulated": simulated,
        "meaning": json.dumps({m: MEANINGS[m] for m in metrics}),
        "contrast": json.dumps(pairs),
        "data": json.dumps(
            [
                {
                    "name": "phantom",
                    "title": "Phantom",
                    "description": "Five brains & <ten> regions.",
                    "citation": "",
                    "licence": "BSD-3-Clause",
                    "n_subjects": len(subjects),
                    "rois": rois,
                    "n_stimuli": 50,
                    "kind": "responses",
                }
            ]
        ),
        "networks": json.dumps(
            [
                {"name": n, "layers": names, "note": "1-bit weights" if i < 2 else ""}
                for i, (n, names) in enumerate(networks.items())
            ]
        ),
        "inference": json.dumps(
            {
                "n_bootstrap": 1000,
                "n_permutations": 1000,
                "confidence": 0.95,
                "equivalence_bound": 0.1,
                "n_splits": 4,
                "random_state": 0,
                "sources": {
                    m: ["subjects", "stimuli"] + (["units"] if m == "decoding" else [])
                    for m in metrics
                },
                "left_out": {m: ["training stimuli", "draw of units"] for m in metrics},
                "dof": {m: {r: k - 1 for r, k in per_roi.items()} for m in metrics},
                "cross_validated": {m: m == "encoding" for m in metrics},
            }
        ),
        "provenance": json.dumps(
            {
                "versions": {"rsacompare": "0.1.0", "numpy": np.__version__},
                "python": "3.11.9",
                "platform": "Linux",
                "machine": "x86_64",
                "random_state": 0,
                "configuration": {"metrics": list(metrics)},
                "inputs": {"92_brainRDMs.mat": "ab" * 32},
                "created": "2026-07-30T12:00:00+00:00",
                "seconds": 12.3,
            }
        ),
        "not_applicable": json.dumps(["decoding cannot use brain RDMs: not computed for hIT"]),
        "notes": json.dumps(["2 voxels of sub-01 never vary and were left out of encoding"]),
    }
    return data


def _contrast_rows(data, pairs, networks):
    """Rows from the fake scores themselves, so that figure, table and sentence must agree."""
    for metric in data["metric"].values:
        for roi in data["roi"].values:
            cell = data["score"].sel(metric=metric, roi=roi).dropna("subject", how="all")
            for a, b in pairs:
                x = cell.values[:, cell["network"].values == a]
                y = cell.values[:, cell["network"].values == b]
                series = {"mean": (x.mean(1) - y.mean(1), "", "")}
                series["depth"] = (series["mean"][0] * 0.98, "", "")
                i, j = x.mean(0).argmax(), y.mean(0).argmax()
                series["best"] = (x[:, i] - y[:, j], networks[a][i], networks[b][j])
                if x.shape[1] == y.shape[1]:
                    for k in range(x.shape[1]):
                        series[f"ordinal{k}"] = (x[:, k] - y[:, k], networks[a][k], networks[b][k])
                for name, (d, layer_a, layer_b) in series.items():
                    n, mean = len(d), d.mean()
                    se = max(d.std(ddof=1) / np.sqrt(n), 1e-3)
                    bound = 0.04
                    yield {
                        "metric": metric,
                        "roi": roi,
                        "pairing": name.rstrip("0123456789"),
                        "network_a": a,
                        "layer_a": layer_a,
                        "network_b": b,
                        "layer_b": layer_b,
                        "difference": mean,
                        "ci_low": mean - 2.78 * se,
                        "ci_high": mean + 2.78 * se,
                        "p": float(np.exp(-abs(mean) / se / 0.8)),
                        "p_equivalence": float(np.clip(np.exp((abs(mean) - bound) / se), 0, 1)),
                        "se": se,
                        "dof": float(n - 1),
                        "bound": bound,
                        "note": f"best layer chosen in 71% ({a}) and 64% ({b})"
                        if name == "best"
                        else "",
                    }


ROIS = ["V1", "V2", "V3", "V4", "LOC", "FFA", "PPA", "LVC", "HVC", "VC"]


def _phantom():
    rng = np.random.default_rng(1)
    layers = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    stages = ["conv1", "res2c", "res3b", "res3d", "res4c", "res4f", "res5c", "fc1000"]
    data = fake_result(
        ["decoding", "rsa", "encoding"],
        {"sim-alexnet": layers, "sim-resnet50": stages},
        {roi: [f"sub-0{i}" for i in range(1, 6)] for roi in ROIS},
        [["sim-alexnet", "sim-resnet50"]],
        rng,
        per_layer_ceiling=("decoding",),
        simulated=1,
    )
    data = add_extra(
        data,
        kind="table",
        metric="",
        title="The truth",
        caption="What the phantom was built with.",
        arrays={
            "network": xr.DataArray(["sim-alexnet", "sim-resnet50"], dims="row"),
            "share of the network": xr.DataArray([0.41, 0.32], dims="row"),
        },
    )
    return add_extra(
        data,
        kind="map",
        metric="encoding",
        title="Where the networks differ",
        caption="Difference of the voxel scores.",
        arrays={
            "values": xr.DataArray(rng.normal(0, 0.1, 900), dims="voxel"),
            "ijk": xr.DataArray(np.argwhere(np.ones((12, 15, 5), int)), dims=("voxel", "axis")),
        },
        unit="correlation r",
        shape=[12, 15, 5],
    )


def _real(all_pairs=True):
    rng = np.random.default_rng(2)
    networks = {
        "alexnet_w1a2": [f"conv{i}" for i in range(1, 7)],
        "resnet50_w1a2": [f"block{i}_bottleneck_residual_out_relu" for i in range(1, 19)],
        "squeezenet": [f"fire{i}" for i in range(1, 11)],
        "alexnet_a2020": [f"conv{i}" for i in range(1, 6)] + ["fc6", "fc7", "fc8", "prob"],
    }
    fifteen = [f"algonauts2019.s{i:02d}" for i in range(1, 16)]
    names = list(networks)
    data = fake_result(
        ["rsa"],
        networks,
        {"EVC": fifteen, "IT": fifteen, "hIT": [f"kriegeskorte92.s{i}" for i in range(1, 5)]},
        [[a, b] for i, a in enumerate(names) for b in names[i + 1 :]][: None if all_pairs else 1],
        rng,
    )
    category = np.repeat(
        ["human face", "human body", "animal", "natural", "artificial"], [12, 12, 24, 21, 23]
    )
    shuffle = rng.permutation(92)
    labels = ["brain/EVC", "brain/IT", "alexnet_w1a2/conv6", "resnet50_w1a2/block18_bottleneck"]
    labels += ["squeezenet/fire10", "alexnet_a2020/prob"]
    same = (category[:, None] == category[None, :])[np.triu_indices(92, 1)]
    pairs = np.stack([1 - w * same + rng.normal(0, 0.3, 4186) for w in np.linspace(0.1, 0.9, 6)])
    order = np.argsort(shuffle)
    square = np.zeros((6, 92, 92))
    square[:, *np.triu_indices(92, 1)] = pairs
    square = (square + square.transpose(0, 2, 1))[:, shuffle][:, :, shuffle]
    assert np.array_equal(shuffle[order], np.arange(92))
    data = add_extra(
        data,
        kind="rdm",
        metric="rsa",
        title="Dissimilarities",
        caption="Mean over subjects for brains.",
        arrays={
            "values": xr.DataArray(square[:, *np.triu_indices(92, 1)], dims=("item", "pair")),
            "label": xr.DataArray(labels, dims="item"),
            "stimulus_id": xr.DataArray([f"stim{i:02d}" for i in range(92)], dims="stimulus"),
            "category": xr.DataArray(category[shuffle], dims="stimulus"),
        },
        unit="1 − r",
    )
    flat = data["layer"].values.astype(str).tolist()
    xy = np.stack([data["depth"].values * 2, rng.normal(0, 0.2, len(flat))], axis=1)
    xy[:, 1] += [0.5 * names.index(n) for n in data["network"].values]
    data = add_extra(
        data,
        kind="embedding",
        metric="rsa",
        title="Layers and regions by the similarity of their dissimilarities (MDS)",
        caption="Classical scaling of 1 − Spearman between RDMs.",
        arrays={
            "xy": xr.DataArray(
                np.r_[xy, [[1, 1.2], [1.6, 0.3], [1.7, 0.6]]], dims=("item", "axis")
            ),
            "label": xr.DataArray([*flat, "EVC", "IT", "hIT"], dims="item"),
            "group": xr.DataArray(
                [*data["network"].values, "brain", "brain", "brain"], dims="item"
            ),
        },
    )
    return add_extra(
        data,
        kind="matrix",
        metric="rsa",
        title="Similarity of regions",
        caption="Spearman between mean RDMs.",
        arrays={
            "values": xr.DataArray(
                [[1, 0.3, 0.2], [0.3, 1, 0.6], [0.2, 0.6, 1]], dims=("row", "column")
            ),
            "row": xr.DataArray(["EVC", "IT", "hIT"], dims="row"),
            "column": xr.DataArray(["EVC", "IT", "hIT"], dims="column"),
        },
        unit="Spearman ρ",
    )


@pytest.fixture(scope="session")
def phantom_result():
    """3 metrics, 2 networks x 8 layers, 10 ROIs, 5 subjects, simulated."""
    return _phantom()


@pytest.fixture(scope="session")
def real_result():
    """1 metric with extras, 4 networks of 6, 18, 10 and 9 layers, 3 ROIs of 15, 15, 4 subjects."""
    return _real()


@pytest.fixture(scope="session")
def make_result():
    """The maker of fake results, and the meanings it knows."""
    return SimpleNamespace(result=fake_result, meanings=MEANINGS)


@pytest.fixture(scope="session")
def small_result():
    """2 metrics, 2 networks x 3 layers, 3 ROIs, 5 subjects, simulated."""
    return fake_result(
        ["decoding", "rsa"],
        {"sim-a": ["l1", "l2", "l3"], "sim-b": ["m1", "m2", "m3"]},
        {roi: [f"sub-0{i}" for i in range(1, 6)] for roi in ["V1", "LOC", "FFA"]},
        [["sim-a", "sim-b"]],
        np.random.default_rng(3),
        simulated=1,
    )


@pytest.fixture
def tiny_result():
    """1 metric, 2 networks x 1 layer, 1 ROI, 3 subjects; made anew for each test."""
    return fake_result(
        ["rsa"],
        {"a": ["l1"], "b": ["l1"]},
        {"all": ["s1", "s2", "s3"]},
        [["a", "b"]],
        np.random.default_rng(0),
    )


@pytest.fixture(scope="session")
def small_pages(small_result, tmp_path_factory):
    """Folder with the report of the small result."""
    return report(small_result, tmp_path_factory.mktemp("small")).parent


@pytest.fixture(scope="session")
def real_pages(tmp_path_factory):
    """Folder with the report of the result with extras, one contrast only."""
    return report(_real(all_pairs=False), tmp_path_factory.mktemp("real")).parent
