"""CKA, Procrustes and PCM against closed forms, rsatoolbox, scipy and PcmPy; their identities."""

import numpy as np
import PcmPy
import pytest
import scipy.linalg
import scipy.optimize
import scipy.stats
from rsatoolbox.rdm import RDMs, compare

import rsacompare as rc
from rsacompare.errors import DataError
from rsacompare.kernels import correlate, dissimilarity, pcm, second_moment
from rsacompare.kernels.resample import multiplicities
from rsacompare.metrics.geometry import CKA, PCM, Procrustes

N = 11
IDS = np.array([f"s{i:02d}" for i in range(N)])
METRICS = {"cka": CKA(), "plain cka": CKA(debiased=False), "procrustes": Procrustes(), "pcm": PCM()}


def related(seed=0, units=7, voxels=9, n=N):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, units)) + 2
    return x, x[:, :3] @ rng.standard_normal((3, voxels)) + rng.standard_normal((n, voxels))


def made(metric, x, y):
    ids = np.array([f"s{i:02d}" for i in range(len(x))])
    layer = rc.activations({"net": {"l1": x}}, stimulus_id=ids)["net/l1"]["activation"]
    brain = rc.responses({"s1": y}, stimulus_id=ids)["s1"]["response"]
    return metric.compare(metric.prepare_activation(layer), metric.prepare_response(brain))


def draws(n=N, size=6, seed=1):
    w = multiplicities(np.random.default_rng(seed), n, size)
    w[0, :] = 0
    w[0, :5] = [4, 1, 1, 1, 1]  # half of all copies are of one stimulus: a zero pivot
    w[1, :] = 0
    w[1, :5] = [6, 1, 1, 2, 1]  # and more than half
    return w


def test_plain_cka_of_resampled_patterns():
    x, y = related()
    evidence = made(METRICS["plain cka"], x, y)
    for w in [np.ones(N), *draws()]:
        rows = np.repeat(np.arange(N), w.astype(int))
        a, b = (v[rows] - v[rows].mean(axis=0) for v in (x, y))
        expected = np.linalg.norm(a.T @ b) ** 2
        expected /= np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
        assert float(evidence.score(w)) == pytest.approx(expected, abs=1e-12)


def hsic1(k, m):
    """Song et al. 2012, equation 5, as it stands there."""
    n = len(k)
    k, m = (v - np.diag(np.diag(v)) for v in (k, m))
    one = np.ones(n)
    total = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def test_debiased_cka_is_the_published_formula():
    x, y = related()
    a, b = x @ x.T, y @ y.T
    expected = hsic1(a, b) / np.sqrt(hsic1(a, a) * hsic1(b, b))
    assert float(made(METRICS["cka"], x, y).score()) == pytest.approx(expected, abs=1e-12)


def test_copies_are_no_pairs_in_debiased_cka():
    x, y = related()
    evidence = made(METRICS["cka"], x, y)
    grams = x @ x.T, y @ y.T
    for w in draws():
        rows = np.repeat(np.arange(N), w.astype(int))
        i, j = np.triu_indices(len(rows), 1)
        different = rows[i] != rows[j]
        i, j = rows[i][different], rows[j][different]
        design = np.zeros((len(i), N))
        design[np.arange(len(i)), i] += 1
        design[np.arange(len(i)), j] += 1
        left = [g[i, j] - design @ np.linalg.lstsq(design, g[i, j], rcond=None)[0] for g in grams]
        expected = left[0] @ left[1] / np.linalg.norm(left[0]) / np.linalg.norm(left[1])
        assert float(evidence.score(w)) == pytest.approx(expected, abs=1e-10)
        copied = [g[np.ix_(rows, rows)] for g in grams]
        wrong = hsic1(*copied) / np.sqrt(hsic1(copied[0], copied[0]) * hsic1(copied[1], copied[1]))
        assert abs(wrong - expected) > 0.01  # what counting them would give


def test_debiased_cka_of_unrelated_patterns_is_zero_on_average_and_plain_is_not():
    rng = np.random.default_rng(2)
    scores = {"cka": [], "plain cka": []}
    for _ in range(400):
        x, y = rng.standard_normal((N, 30)), rng.standard_normal((N, 30))
        for name, held in scores.items():
            held.append(float(made(METRICS[name], x, y).score()))
    debiased, plain = (np.array(held) for held in scores.values())
    assert abs(debiased.mean()) < 3 * debiased.std() / 20
    assert plain.mean() > 0.6


def test_whitened_cosine_with_identity_covariance_is_cka():
    x, y = related()
    rdms = [dissimilarity.euclidean(v)[None] for v in (x, y)]
    cka = float(made(METRICS["plain cka"], x, y).score())
    assert correlate.compare_rdms(*rdms, "cosine_cov")[0, 0] == pytest.approx(cka, abs=1e-12)
    assert compare(RDMs(rdms[0]), RDMs(rdms[1]), "cosine_cov")[0, 0] == pytest.approx(cka, abs=1e-9)
    plain = correlate.compare_rdms(*rdms, "cosine")[0, 0]
    assert abs(plain - cka) > 0.01


def test_gram_and_squared_distances_hold_the_same():
    x, _ = related()
    g = second_moment.gram(x)
    d = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(x, "sqeuclidean"))
    np.testing.assert_allclose(second_moment.squared_distances(g), d, atol=1e-10)
    np.testing.assert_allclose(second_moment.gram_of_squared_distances(d), g, atol=1e-10)


def test_procrustes_of_resampled_patterns():
    x, y = related()
    evidence = made(METRICS["procrustes"], x, y)
    for w in [np.ones(N), *draws()]:
        rows = np.repeat(np.arange(N), w.astype(int))
        a, b = (v[rows] - v[rows].mean(axis=0) for v in (x, y))
        a = np.c_[a, np.zeros((len(a), b.shape[1] - a.shape[1]))]
        scale = scipy.linalg.orthogonal_procrustes(a, b)[1]
        expected = scale / np.linalg.norm(a) / np.linalg.norm(b)
        assert float(evidence.score(w)) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("units", "voxels"), [(3, 9), (40, 30), (40, 2)])
def test_procrustes_of_many_draws_at_once(units, voxels):
    # fewer and more dimensions than distinct stimuli, and two stimuli with one pattern
    x, y = related(units=units, voxels=voxels)
    x[1], y[1] = x[0], y[0]
    w = np.concatenate([draws(), draws(size=40, seed=2)]).astype(float)
    found = made(METRICS["procrustes"], x, y).score(w)
    for value, counts in zip(found, w, strict=True):
        rows = np.repeat(np.arange(N), counts.astype(int))
        a, b = (v[rows] - v[rows].mean(axis=0) for v in (x, y))
        expected = np.linalg.norm(a.T @ b, "nuc") / np.linalg.norm(a) / np.linalg.norm(b)
        assert value == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("name", METRICS)
def test_a_draw_without_stimuli_has_no_score(name):
    found = made(METRICS[name], *related()).score(np.stack([np.zeros(N), np.ones(N)]))
    assert np.isfinite(found).tolist() == [False, True]


@pytest.mark.parametrize("name", ["cka", "plain cka", "procrustes"])
def test_rotation_shift_and_scale_are_free_and_shear_is_not(name):
    x, _ = related()
    rotation = scipy.stats.ortho_group.rvs(7, random_state=3)
    same = made(METRICS[name], x, 3 * x @ rotation + 5)
    assert float(same.score()) == pytest.approx(1.0, abs=1e-10)
    sheared = made(METRICS[name], x, x @ (np.eye(7) + np.diag(np.full(6, 2.0), 1)))
    assert float(sheared.score()) < 0.97


def contrasts(n):
    return scipy.linalg.null_space(np.ones((1, n))).T


def log_likelihood(y, g, signal, noise):
    """The dense normal density of the contrasts of every voxel."""
    c = contrasts(len(y))
    v = c @ (signal * g + noise * np.eye(len(y))) @ c.T
    return scipy.stats.multivariate_normal(np.zeros(len(c)), v).logpdf((c @ y).T).sum()


def test_pcm_is_the_best_dense_normal_density():
    x, y = related(4)
    g = second_moment.gram(x)
    found = scipy.optimize.minimize(
        lambda t: -log_likelihood(y, g, *np.exp(t)), [0.0, 0.0], method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-11, "maxiter": 2000},
    )  # fmt: skip
    null = scipy.optimize.minimize_scalar(lambda t: -log_likelihood(y, g, 0.0, np.exp(t)))
    expected = (null.fun - found.fun) / y.shape[1]
    evidence = made(METRICS["pcm"], x, y)
    assert float(evidence.score()) == pytest.approx(expected, abs=1e-7)
    assert expected > 0.5
    values, vectors = pcm.spectrum(g)
    _, ratio, noise = pcm.gain(values, pcm.energy(vectors, y), y.shape[1])
    mean = np.trace(g) / (N - 1)
    np.testing.assert_allclose([ratio * noise / mean, noise], np.exp(found.x), rtol=1e-3)


def test_pcm_likelihood_is_that_of_pcmpy():
    x, y = related(5)
    g = second_moment.gram(x)
    values, vectors = pcm.spectrum(g)
    gain, ratio, noise = pcm.gain(values, pcm.energy(vectors, y), y.shape[1])
    signal = ratio * noise / (np.trace(g) / (N - 1))
    null = np.trace(second_moment.gram(y)) / ((N - 1) * y.shape[1])

    def theirs(model, variance):
        fixed = PcmPy.FixedModel("g", model)
        return -PcmPy.likelihood_individ(
            np.array([np.log(variance)]), fixed, y @ y.T, np.eye(N), np.ones((N, 1)),
            n_channel=y.shape[1],
        )[0]  # fmt: skip

    difference = theirs(signal * g, noise) - theirs(0 * g + 1e-14 * np.eye(N), null)
    assert float(gain) == pytest.approx(float(np.squeeze(difference)) / y.shape[1], abs=1e-8)


def test_pcm_shares_add_up_and_weigh():
    x, y = related(6)
    evidence = made(METRICS["pcm"], x, y)
    assert evidence.parts.sum() == pytest.approx(float(evidence.score()), abs=1e-12)
    w = draws()
    expected = N * (w @ evidence.parts) / w.sum(axis=1)
    np.testing.assert_allclose(evidence.score(w), expected, atol=1e-12)
    g = second_moment.gram(x)
    values, vectors = pcm.spectrum(g)
    _, ratio, noise = pcm.gain(values, pcm.energy(vectors, y), 9)
    signal = ratio * noise / (np.trace(g) / (N - 1))
    null = np.trace(second_moment.gram(y)) / ((N - 1) * 9)

    def above(rows):
        cut = g[np.ix_(rows, rows)]
        return log_likelihood(y[rows], cut, signal, noise) - log_likelihood(y[rows], cut, 0, null)

    lost = [above(np.arange(N)) - above(np.delete(np.arange(N), i)) for i in range(N)]
    np.testing.assert_allclose(
        evidence.parts - evidence.parts.mean(), (lost - np.mean(lost)) / 9, atol=1e-9
    )


def test_bootstrap_errors_are_those_of_fresh_stimuli():
    """All four under the same 150 fresh sets of stimuli; PCM shares as they stand would give .6."""
    rng = np.random.default_rng(15)
    to_x, to_y = rng.standard_normal((5, 15)), rng.standard_normal((5, 20))
    scores, errors = {name: [] for name in METRICS}, {name: [] for name in METRICS}
    for _ in range(150):
        z = rng.standard_normal((40, 5))
        x = z @ to_x + 2 * rng.standard_normal((40, 15))
        y = z @ to_y + 3 * rng.standard_normal((40, 20))
        w = multiplicities(rng, 40, 100)
        for name, metric in METRICS.items():
            evidence = made(metric, x, y)
            scores[name].append(float(evidence.score()))
            errors[name].append(evidence.score(w).var())
    for name in METRICS:
        ratio = np.sqrt(np.mean(errors[name])) / np.std(scores[name])
        assert 0.85 < ratio < 1.4, (name, ratio)


@pytest.mark.parametrize("name", METRICS)
def test_null_is_the_score_of_re_indexed_stimuli(name):
    x, y = related(7)
    orders = np.array([np.random.default_rng(k).permutation(N) for k in range(5)])
    expected = [float(made(METRICS[name], x[order], y).score()) for order in orders]
    np.testing.assert_allclose(made(METRICS[name], x, y).null(orders), expected, atol=1e-9)


def subjects(name, n=4):
    x, y = related(8)
    rng = np.random.default_rng(9)
    return [made(METRICS[name], x, y + 2 * rng.standard_normal(y.shape)) for _ in range(n)]


@pytest.mark.parametrize("name", ["cka", "plain cka"])
def test_ceilings_of_cka_under_draws_of_stimuli_and_subjects(name):
    cells = subjects(name)
    debiased = name == "cka"
    w, m = (
        draws(size=5),
        np.array([[1, 1, 1, 1], [2, 1, 1, 0], [3, 0, 1, 0], [4, 0, 0, 0], [0, 2, 2, 0]]),
    )
    m = m.astype(float)
    low, high = type(cells[0]).group_ceiling(cells, w, m)
    for d in range(5):
        grams = [second_moment.prepare(c.brain.gram, debiased) for c in cells]
        one = w[d : d + 1]
        norm = [np.sqrt(second_moment.weigh(g, one, debiased).square[0]) for g in grams]
        scaled = [g / v for g, v in zip(grams, norm, strict=True)]
        for s in range(4):
            rest = m[d].copy()
            rest[s] = 0
            for bound, counts in ((low, rest), (high, m[d])):
                if not counts.any():
                    assert np.isnan(bound[d, s])
                    continue
                pool = sum(k * g for k, g in zip(counts, scaled, strict=True))
                expected = second_moment.alignment(grams[s], pool, one, debiased)[0]
                assert bound[d, s] == pytest.approx(expected, abs=1e-10)
    bare_low, bare_high = type(cells[0]).group_ceiling(cells)
    assert (bare_low < bare_high).all()
    assert bare_high.mean() > max(float(c.score()) for c in cells) - 0.5


def test_no_gram_exceeds_the_upper_ceiling_of_cka():
    cells = subjects("cka")
    upper = type(cells[0]).group_ceiling(cells)[1].mean()
    rng = np.random.default_rng(10)
    grams = [c.brain.prepared(True) / np.linalg.norm(c.brain.prepared(True)) for c in cells]
    for _ in range(50):
        pool = sum(k * g for k, g in zip(rng.random(4), grams, strict=True))
        scores = [second_moment.alignment(g, pool, np.ones((1, N)), True)[0] for g in grams]
        assert np.mean(scores) <= upper + 1e-12


def test_ceilings_of_pcm_are_models_made_of_the_other_subjects():
    cells = subjects("pcm")
    low, high = type(cells[0]).group_ceiling(cells)
    scaled = [c.brain.gram / np.trace(c.brain.gram) for c in cells]
    for s, cell in enumerate(cells):
        data = second_moment.factor(cell.brain.gram)
        for bound, pool in ((low, sum(scaled) - scaled[s]), (high, sum(scaled))):
            values, vectors = pcm.spectrum(pool)
            expected = pcm.gain(values, pcm.energy(vectors, data), 9)[0]
            assert bound[s] == pytest.approx(float(expected), abs=1e-9)
    assert (low < high).all()


@pytest.mark.parametrize("name", METRICS)
def test_one_subject_has_no_ceiling(name):
    cells = subjects(name, 1)
    for w in (None, draws()):
        low, high = type(cells[0]).group_ceiling(cells, w)
        assert np.isnan(low).all()
        assert np.isnan(high).all()


def test_what_depends_on_features_only_through_their_gram():
    """Rotating the units changes no metric of the family, nor ridge encoding, but mean decoding.

    `encoding` standardises units, which only a rotation of equally varying, uncorrelated units
    leaves as it was: the units are whitened over the training stimuli here.
    """
    rng = np.random.default_rng(11)
    n, units = 60, 12
    x = rng.standard_normal((n, units))
    x -= x[:40].mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(x[:40].T @ x[:40] / 40)).T
    y = x @ np.diag(np.linspace(0.1, 4, units)) @ rng.standard_normal((units, 15))
    y += 3 * rng.standard_normal((n, 15))
    rotation = scipy.stats.ortho_group.rvs(units, random_state=12)
    ids = [f"s{i}" for i in range(n)]
    split = ["train"] * 40 + ["test"] * 20
    nets = {"plain": {"l": x}, "rotated": {"l": x @ rotation}}
    brain = rc.responses({"s1": y}, stimulus_id=ids, split=split)
    metrics = dict(METRICS) | {
        "rsa": rc.metric("rsa", distance="euclidean"),
        "encoding": rc.metric("encoding", alphas=[10.0]),
        "decoding": rc.metric("decoding", n_voxels=15),
    }
    comparison = rc.compare(rc.activations(nets, stimulus_id=ids), brain, metrics)
    score = comparison.scores["score"].squeeze(["subject", "roi"])
    change = abs(score.sel(layer="plain/l") - score.sel(layer="rotated/l"))
    for name in metrics:
        found = float(change.sel(metric=name))
        if name == "decoding":
            assert found > 0.01
        else:
            assert found < 1e-8, name


def test_a_study_from_the_store_gives_the_same_bits(tmp_path):
    rng = np.random.default_rng(13)
    x, y = related(14, n=14)
    ids = [f"s{i}" for i in range(14)]
    nets = rc.activations({"a": {"l": x}, "b": {"l": x[:, :2]}}, stimulus_id=ids)
    brain = rc.responses(
        {f"p{k}": y + rng.standard_normal(y.shape) for k in range(3)}, stimulus_id=ids
    )
    options = {"n_bootstrap": 60, "n_permutations": 60}
    results = [
        rc.infer(rc.compare(nets, brain, METRICS, store=folder), **options)
        for folder in (None, tmp_path, tmp_path)
    ]
    for name in ("boot", "null", "ceiling_low", "contrast_difference"):
        for other in results[1:]:
            np.testing.assert_array_equal(other[name], results[0][name])
    assert np.isfinite(results[0]["se"]).all()
    assert np.isfinite(results[0].sel(metric=["cka", "pcm"])["ceiling_low"]).all()


@pytest.mark.parametrize("name", METRICS)
def test_bad_input(name):
    x, y = related()
    metric = METRICS[name]
    fewest = {"cka": 4}.get(name, 3)
    assert np.isfinite(made(metric, x[:fewest], y[:fewest]).score())
    with pytest.raises(DataError, match=f"{fewest - 1} stimuli; .* needs {fewest} at least"):
        made(metric, x[: fewest - 1], y[: fewest - 1])
    with pytest.raises(DataError, match=r"network.*the same pattern over its 7"):
        made(metric, np.ones((N, 7)) * np.arange(7.0), y)
    with pytest.raises(DataError, match=r"brain.*the same pattern over its 9"):
        made(metric, x, np.ones((N, 9)) * 0.1)
    brain = rc.responses({"s": y}, stimulus_id=IDS)["s"]["response"] * np.nan
    with pytest.raises(DataError, match="NaN or infinite"):
        metric.prepare_response(brain)
    one = made(metric, x[:, :1], y[:, :1])  # one unit, one voxel: a Gram of rank one
    assert np.isfinite(one.score())
    silent = np.zeros((1, N))
    silent[0, 3] = N  # a draw of one stimulus alone
    if name != "pcm":
        assert np.isnan(one.score(silent)).all()
