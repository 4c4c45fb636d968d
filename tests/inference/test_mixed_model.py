"""The mixed model against statsmodels' formula, least squares and simulated known answers."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import xarray as xr

import rsacompare as rc
from rsacompare.errors import ProtocolError
from rsacompare.inference import mixed, mixed_fit
from rsacompare.inference.mixed import mixed_model
from rsacompare.schema.labels import clean_attrs
from rsacompare.schema.results import Comparison, layer_coords

NETWORKS = ("a", "b")
QUICK = {"n_bootstrap": 300, "n_permutations": 19}


def scores_of(cube, depth, rois=("V1", "V2", "V3"), overlap=None, networks=NETWORKS):
    """A Comparison without evidence from (subject, roi, layer) scores."""
    layers = [
        (n, f"l{i}", {"layer_index": i, "depth": d}) for n in networks for i, d in enumerate(depth)
    ]
    data = xr.Dataset(
        {"score": (("metric", "subject", "roi", "layer"), cube[None])},
        coords={
            "metric": ["m"],
            "subject": [f"s{i}" for i in range(len(cube))],
            "roi": list(rois),
            **layer_coords(layers),
        },
    )
    data["mean_score"] = data["score"].mean("subject")
    known = {"voxels": dict.fromkeys(rois, 9), "shared": {}} if overlap is None else overlap
    data.attrs = clean_attrs({"meaning": {"m": {"higher_is_better": True}}, "roi_overlap": known})
    return data


def simulated(rng, n=6, rois=3, depth=(0.0, 0.3, 0.6, 1.0), effect=0.2, slope=0.3, subject=0.1):
    """(subject, roi, layer) with random intercepts and network slopes."""
    depth = np.asarray(depth)
    net = np.repeat([0.5, -0.5], len(depth))
    z = np.tile(depth - depth.mean(), 2)
    cube = 0.4 + effect * net + slope * z + 0.1 * net * z + 0.05 * np.arange(rois)[:, None]
    cube = cube + subject * rng.standard_normal((n, 1, 1))
    cube = cube + subject * rng.standard_normal((n, 1, 1)) * net
    return cube + 0.05 * rng.standard_normal((n, rois, len(net)))


def long_frame(data, rois):
    """Rows with columns coded as the docstring of `design` says, written out once more."""
    frame = data["score"].isel(metric=0).to_dataframe().reset_index().dropna(subset="score")
    frame["net"] = np.where(frame["network"] == "a", 0.5, -0.5)
    frame["z"] = frame["depth"] - data["depth"].values.mean()
    for roi in rois[1:]:
        frame[roi] = (frame["roi"] == roi) - 1 / len(rois)
    return frame


def test_equals_statsmodels_by_formula_and_least_squares():
    data = scores_of(simulated(np.random.default_rng(0)), (0.0, 0.3, 0.6, 1.0))
    table = mixed_model(data).set_index("term")
    frame = long_frame(data, ["V1", "V2", "V3"])
    model = smf.mixedlm("score ~ net * z * (V2 + V3)", frame, groups="subject", re_formula="net")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the boundary, by an absolute number
        judge = model.fit(reml=True)
    names = {
        "overall mean": "Intercept",
        "a − b": "net",
        "depth": "z",
        "V3 − V1": "V3",
        "(a − b) × depth": "net:z",
        "(a − b) × (V2 − V1)": "net:V2",
        "depth × (V3 − V1)": "z:V3",
        "(a − b) × depth × (V2 − V1)": "net:z:V2",
    }
    assert len(table) == len(judge.fe_params) == 12
    for ours, theirs in names.items():
        assert table.loc[ours, "estimate"] == pytest.approx(judge.fe_params[theirs], abs=1e-6)
        half = 1.959964 * judge.bse_fe[theirs]
        wald = table.loc[ours, ["wald_low", "wald_high"]].to_numpy(float)
        assert wald == pytest.approx(judge.fe_params[theirs] + np.array([-half, half]), abs=2e-5)
    ols = smf.ols("score ~ net * z * (V2 + V3)", frame).fit()
    for ours, theirs in names.items():
        assert table.loc[ours, "estimate"] == pytest.approx(ols.params[theirs], abs=1e-9)
    # the difference of the networks is the plain difference of their means: depths are the same
    means = data["score"].groupby("network").mean(...)
    assert table.loc["a − b", "estimate"] == pytest.approx(float(means[0] - means[1]), abs=1e-9)
    assert "random slopes" in table.attrs["caption"]
    assert table.attrs["variances"]["slope 1"] == pytest.approx(judge.cov_re.iloc[1, 1], rel=0.01)


def test_known_coefficients_come_back():
    estimates = []
    rng = np.random.default_rng(1)
    for _ in range(40):
        table = mixed_model(scores_of(simulated(rng), (0.0, 0.3, 0.6, 1.0))).set_index("term")
        estimates.append(table["estimate"])
    found = pd.DataFrame(estimates)
    error = found.std() / np.sqrt(len(found))
    truth = {"a − b": 0.2, "depth": 0.3, "(a − b) × depth": 0.1, "V2 − V1": 0.05, "V3 − V1": 0.1,
             "overall mean": 0.45, "depth × (V3 − V1)": 0.0}  # fmt: skip
    for term, value in truth.items():
        assert abs(found[term].mean() - value) < 3.5 * error[term], term


def test_unbalanced_data_have_estimates_of_their_own_and_no_draws(monkeypatch):
    cube = simulated(np.random.default_rng(2))
    cube[0, 1, 2] = cube[3, 2, 5] = np.nan
    data = scores_of(cube, (0.0, 0.3, 0.6, 1.0))
    table = mixed_model(data).set_index("term")
    frame = long_frame(data, ["V1", "V2", "V3"])
    model = smf.mixedlm("score ~ net * z * (V2 + V3)", frame, groups="subject", re_formula="net")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge = model.fit(reml=True)
    assert table.loc["a − b", "estimate"] == pytest.approx(judge.fe_params["net"], abs=1e-6)
    ols = smf.ols("score ~ net * z * (V2 + V3)", frame).fit()
    assert abs(table.loc["a − b", "estimate"] - ols.params["net"]) > 1e-5
    assert table["ci_low"].isna().all()
    assert any("2 of 144 cells have no score" in note for note in table.attrs["notes"])


def test_an_roi_that_not_every_subject_has_is_left_out_and_said():
    cube = simulated(np.random.default_rng(3))
    cube[2, 1] = np.nan
    table = mixed_model(scores_of(cube, (0.0, 0.3, 0.6, 1.0)))
    assert table.attrs["rois"] == ["V1", "V3"]
    assert any(note.startswith("V2 left out: not every subject") for note in table.attrs["notes"])


def test_overlapping_rois_are_not_counted_twice():
    held = {"voxels": {"V1": 5, "V2": 6, "V3": 11}, "shared": {"V3": {"V1": 0.4}, "V1": {"V3": 1}}}
    data = scores_of(simulated(np.random.default_rng(4)), (0.0, 0.3, 0.6, 1.0), overlap=held)
    table = mixed_model(data)
    assert table.attrs["rois"] == ["V1", "V2"]
    assert any("V3 left out: the ROIs of the model share no voxels" in n
               for n in table.attrs["notes"])  # fmt: skip
    asked = mixed_model(data, rois=["V1", "V3"])
    assert any("count twice: V1 and V3" in note for note in asked.attrs["notes"])
    unknown = mixed_model(data.assign_attrs(roi_overlap="{}"))
    assert unknown.attrs["rois"] == ["V1", "V2", "V3"]
    assert any("is not known (no masks)" in note for note in unknown.attrs["notes"])


def test_trouble_is_told_in_words_and_never_printed(recwarn):
    """No difference between subjects at all: a variance on its boundary."""
    rng = np.random.default_rng(5)
    cube = simulated(rng, subject=0.0).reshape(6, 3, 2, 4)
    cube -= cube.mean(axis=(1, 3), keepdims=True) - cube.mean(axis=(0, 1, 3))[:, None]
    data = scores_of(cube.reshape(6, 3, 8) * 1e-3, (0.0, 0.3, 0.6, 1.0))
    table = mixed_model(data)
    assert not recwarn.list
    told = " ".join(table.attrs["notes"])
    assert "Random slopes of the networks were tried and left out" in told
    assert "estimated at or near 0" in told
    # the scale of a score decides nothing
    large = mixed_model(scores_of(data["score"].values[0] * 1e3, (0.0, 0.3, 0.6, 1.0)))
    assert large.attrs["notes"] == table.attrs["notes"]
    np.testing.assert_allclose(large["estimate"], table["estimate"] * 1e3)


def test_scores_without_any_residual_are_told():
    depth = np.array([0.0, 0.5, 1.0])
    cube = np.tile(np.r_[depth, 2 * depth], (4, 2, 1))
    table = mixed_model(scores_of(cube, depth, ("V1", "V2"))).set_index("term")
    assert table.loc["(a − b) × depth", "estimate"] == pytest.approx(-1.0)
    assert table["wald_low"].isna().all()
    assert any("without any residual" in note for note in table.attrs["notes"])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d.isel(subject=[0]), "two subjects, and there is one"),
        (lambda d: d.isel(layer=d["network"].values == "a"), "two networks .* and there is one"),
        (lambda d: d.isel(layer=[0, 4]), "two networks of two depths each, and there are none"),
    ],
)
def test_no_model_and_why(change, why):
    data = scores_of(simulated(np.random.default_rng(7)), (0.0, 0.3, 0.6, 1.0))
    with pytest.raises(ProtocolError, match=why):
        mixed_model(change(data))


def test_unknown_names_are_told():
    data = scores_of(simulated(np.random.default_rng(7)), (0.0, 0.3, 0.6, 1.0))
    with pytest.raises(ProtocolError, match="ROI"):
        mixed_model(data, rois=["V9"])
    with pytest.raises(ProtocolError, match="network"):
        mixed_model(data, networks=["a", "c"])
    with pytest.raises(ProtocolError, match="metric"):
        mixed_model(data, "rsa")
    with pytest.raises(ProtocolError, match=r"rsacompare.infer or rsacompare.compare"):
        mixed_model([1])


def test_three_networks_are_differences_to_the_last():
    rng = np.random.default_rng(8)
    depth = np.array([0.0, 0.4, 1.0])
    level = np.repeat([0.5, 0.3, 0.1], 3)
    cube = level + 0.02 * rng.standard_normal((5, 2, 9))
    table = mixed_model(scores_of(cube, depth, ("V1", "V2"), networks=("x", "y", "z")))
    found = table.set_index("term")["estimate"]
    mean = cube.mean(axis=(0, 1)).reshape(3, 3).mean(axis=1)
    assert found["x − z"] == pytest.approx(mean[0] - mean[2], abs=1e-9)
    assert found["y − z"] == pytest.approx(mean[1] - mean[2], abs=1e-9)
    assert found["overall mean"] == pytest.approx(mean.mean(), abs=1e-9)


def two_rois(product_comparison, values):
    """The ROIs V1 and V2 of {network: (layer, subject, stimulus, roi)} in one comparison."""
    parts = [product_comparison({n: v[..., r] for n, v in values.items()}) for r in (0, 1)]
    scores = xr.concat(
        [p.scores.assign_coords(roi=[f"V{r + 1}"]) for r, p in enumerate(parts)], "roi"
    )
    evidence = {
        cell._replace(roi=f"V{r + 1}"): held
        for r, part in enumerate(parts)
        for cell, held in part.evidence.items()
    }
    return Comparison(scores, evidence)


def crossed(rng, subjects=5, stimuli=40, layers=4, of_stimuli=0.5):
    """Two networks alike on average; subjects, stimuli and their interaction differ by network."""
    values = {}
    shared = 0.15 * rng.standard_normal((subjects, 1, 1))
    for network in NETWORKS:
        values[network] = (
            0.3
            + shared
            + 0.1 * rng.standard_normal((1, subjects, 1, 1))
            + of_stimuli * rng.standard_normal((1, 1, stimuli, 1))
            + 0.5 * rng.standard_normal((layers, subjects, stimuli, 2))
        )
    return values


def test_the_page_has_the_model_with_the_interval_of_the_mean_contrast(product_comparison):
    """Over one ROI and equal depths the network term is the `mean` pairing, interval and all."""
    values = crossed(np.random.default_rng(9))
    one = product_comparison({n: v[..., 0] for n, v in values.items()})
    result = rc.infer(one, **QUICK)
    row = rc.tables(result)["contrasts"].set_index("pairing").loc["mean"]
    term = mixed_model(result).set_index("term").loc["a − b"]
    assert term["estimate"] == pytest.approx(row["difference"], abs=1e-9)
    assert term["ci_low"] == pytest.approx(row["ci_low"], abs=1e-9)
    assert term["ci_high"] == pytest.approx(row["ci_high"], abs=1e-9)
    extras = [e for e in json.loads(result.attrs["extras"]) if "Mixed" in e["title"]]
    assert [e["kind"] for e in extras] == ["intervals", "table"]
    assert "Descriptive" in extras[0]["caption"]


def test_two_rois_from_a_comparison_and_from_a_result_agree(product_comparison):
    comparison = two_rois(product_comparison, crossed(np.random.default_rng(10)))
    stored = mixed_model(rc.infer(comparison, **QUICK))
    made = mixed_model(comparison, n_bootstrap=300)
    pd.testing.assert_frame_equal(stored, made)
    assert stored.attrs["rois"] == made.attrs["rois"] == ["V1", "V2"]
    other = mixed_model(rc.infer(comparison, **QUICK), rois=["V1"])
    assert other["ci_low"].isna().all()


def test_one_subject_is_a_note_not_an_error(product_comparison):
    values = {n: v[:, :1, :, 0] for n, v in crossed(np.random.default_rng(11)).items()}
    notes = json.loads(rc.infer(product_comparison(values), **QUICK).attrs["notes"])
    assert any("no mixed model: it needs two subjects, and there is one." in n for n in notes)


@pytest.mark.slow
@pytest.mark.parametrize("of_stimuli", [0.5, 0.0])
def test_wald_is_too_liberal_at_five_subjects_and_the_draws_are_not(product_comparison, of_stimuli):
    """The networks differ by nothing but chance, of shared stimuli and subjects or of these alone.

    Measured: see the docstring of `mixed_model`.
    """
    rng = np.random.default_rng(12)
    wald = draws = 0
    n = 400
    for _ in range(n):
        comparison = two_rois(product_comparison, crossed(rng, of_stimuli=of_stimuli))
        row = mixed_model(comparison, n_bootstrap=400).set_index("term").loc["a − b"]
        wald += not row["wald_low"] < 0 < row["wald_high"]
        draws += not row["ci_low"] < 0 < row["ci_high"]
    print(f"of stimuli {of_stimuli}: Wald {wald / n:.3f}, draws {draws / n:.3f}")
    error = np.sqrt(0.05 * 0.95 / n)
    assert wald / n > 0.05 + 4 * error
    assert draws / n < 0.05 + 2 * error


def test_trouble_of_statsmodels_has_words_of_ours():
    assert mixed_fit._phrase("The MLE may be on the boundary of the parameter space.") == (
        "a variance between subjects is estimated at or near 0, the edge of what it can be"
    )
    assert mixed_fit._phrase("Something new.") == "Something new"
    assert mixed.COLUMNS[0] == "term"


def test_regions_of_other_people_are_left_out_where_nobody_has_all():
    """As in a study of two data sets: the larger block of people and regions is fitted."""
    cube = simulated(np.random.default_rng(9), n=9)
    whole = mixed_model(scores_of(cube[:6, :2], (0.0, 0.3, 0.6, 1.0), ("V1", "V2")))
    cube[:6, 2] = np.nan
    cube[6:, :2] = np.nan
    table = mixed_model(scores_of(cube, (0.0, 0.3, 0.6, 1.0)))
    assert any(note.startswith("V3 left out") for note in table.attrs["notes"])
    np.testing.assert_allclose(table["estimate"], whole["estimate"], atol=1e-9)
