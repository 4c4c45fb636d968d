"""What a first user gets wrong in Python: one sentence each, never a traceback from inside."""

import numpy as np
import pytest

import rsacompare as rc
from rsacompare import plugins, testing
from rsacompare.errors import DataError, ProtocolError

IDS = [f"s{i:02d}" for i in range(24)]
RNG = np.random.default_rng(0)
LAYER = RNG.standard_normal((24, 10))
ACTS = rc.activations(
    {"a": {"l1": LAYER}, "b": {"l1": RNG.standard_normal((24, 8))}}, stimulus_id=IDS
)
BRAIN = rc.responses({"s": LAYER @ RNG.standard_normal((10, 20))}, stimulus_id=IDS)


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    monkeypatch.setattr(plugins, "_registered", {group: {} for group in plugins.GROUPS})


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: rc.responses(LAYER, stimulus_id=IDS), DataError, "{subject: array"),
        (lambda: rc.activations({"l1": LAYER}, stimulus_id=IDS), DataError, "below 'l1' a table"),
        (lambda: rc.rdms({"V1": np.eye(24)}, stimulus_id=IDS), DataError, "{subject: {roi: D}}"),
        (lambda: rc.compare(BRAIN, ACTS, metrics="rsa"), ProtocolError, "argument holds responses"),
        (
            lambda: rc.compare(ACTS, BRAIN, metrics={"rsa": {"comparator": "corr"}}),
            ProtocolError,
            "rsacompare.metric('rsa', comparator='corr')",
        ),
        (lambda: rc.compare(ACTS, BRAIN, metrics="RSA"), ProtocolError, "did you mean 'rsa'?"),
        (lambda: rc.infer(ACTS), ProtocolError, "what rsacompare.compare gives, not a DataTree"),
        (lambda: rc.report(BRAIN, "x"), ProtocolError, "gives, not a DataTree"),
        (lambda: rc.tables(BRAIN), ProtocolError, "gives, not a DataTree"),
        (
            lambda: rc.infer(rc.compare(ACTS, BRAIN, metrics="rsa"), contrast="ab"),
            ProtocolError,
            "a contrast names two networks",
        ),
    ],
)
def test_what_is_wrong_is_said(call, kind, said):
    with pytest.raises(kind) as err:
        call()
    assert said in str(err.value)


def test_a_missing_dissimilarity_is_named_by_its_stimuli():
    rdm = np.ones((24, 24)) - np.eye(24)
    rdm[3, 5] = rdm[5, 3] = np.nan
    with pytest.raises(DataError, match=r"1 of 276 pairs are NaN .* rows 3, 5, counted from 0"):
        rc.rdms({"s": {"V1": rdm}}, stimulus_id=IDS)


def test_an_roi_without_variance_predicts_the_mean():
    """Decoding from a constant ROI has no score, and is no crash."""
    brain = rc.responses({"s": np.zeros((24, 20))}, stimulus_id=IDS)
    scores = rc.compare(ACTS, brain, metrics="decoding").scores["score"]
    assert np.isnan(scores).all()


def test_metric_that_gives_no_evidence():
    rc.register_metric("half")(lambda activation, response: 0.5)
    with pytest.raises(ProtocolError, match=r"half, a/l1, ROI all, s: the metric gave float"):
        rc.compare(ACTS, BRAIN, metrics="half")


def test_a_class_needs_no_more_than_compare():
    """Its name and meaning are those of its registration, as for a function."""

    @rc.register_metric("level", meaning=rc.Meaning("level of all", chance=0.25))
    class Level(rc.Metric):
        def compare(self, activation, response):
            ids, voxels, _, _ = rc.average_repetitions(response)
            network = activation.sel(stimulus_id=ids).values[:, :1]
            return rc.TargetEvidence(ids, voxels.mean(axis=1)[:, None], network)

    assert rc.metric("level").name == "level"
    assert rc.metric("level").meaning.chance == 0.25
    got = rc.compare(ACTS, BRAIN, metrics="level").scores["score"].sel(layer="a/l1").item()
    level = BRAIN["s"]["response"].values.mean(axis=1)
    assert got == pytest.approx(np.corrcoef(level, LAYER[:, 0])[0, 1])
    assert testing.check_metric("level")


def test_a_metric_without_meaning_is_refused_before_any_work():
    class Bare(rc.Metric):
        def compare(self, activation, response):
            raise AssertionError("not reached")

    with pytest.raises(ProtocolError, match="give Bare a class attribute, meaning ="):
        rc.compare(ACTS, BRAIN, metrics={"bare": Bare()})


def test_a_built_in_metric_cannot_be_replaced_by_accident():
    with pytest.raises(ProtocolError, match=r"'rsa' is registered already, by rsacompare\.metrics"):
        rc.register_metric("rsa")(lambda activation, response: None)
    assert type(rc.metric("rsa")).__name__ == "RSA"
    with pytest.raises(ProtocolError, match="the decorator needs a name"):
        rc.register_metric(lambda activation, response: None)


def test_pages_link_to_no_file_that_is_not_there(tmp_path):
    result = rc.infer(rc.compare(ACTS, BRAIN, metrics="rsa"), n_bootstrap=10, n_permutations=10)
    page = rc.report(result, tmp_path / "mine")
    assert "results.nc" not in page.read_text(encoding="utf-8")
    result.to_netcdf(tmp_path / "mine" / "results.nc")
    text = rc.report(tmp_path / "mine", tmp_path / "mine").read_text(encoding="utf-8")
    assert 'href="results.nc"' in text
    assert "scores.csv" not in text


def test_one_broken_plugin_hides_no_other(monkeypatch):
    from importlib.metadata import EntryPoint

    from rsacompare import plugins

    broken = EntryPoint("torn", "rsacompare.nowhere:thing", "rsacompare.metrics")
    whole = plugins._entry_points
    monkeypatch.setattr(plugins, "_entry_points", lambda group: [*whole(group), broken])
    lines = plugins.described("metrics")
    assert any(line.startswith("torn") and "ModuleNotFoundError" in line for line in lines)
    assert any(line.startswith("rsa ") and "Dissimilarities" in line for line in lines)
