"""Make `data/sample/`: a tiny simulated study in the true file formats.

Three subjects, 24 training and 12 test stimuli (four repetitions), 30 voxels in overlapping ROIs;
two networks of three layers. `tiny-a` reads the features that the brains read, early layers those
of V1 and late ones those of LOC; `tiny-b` reads features of its own. Run it again with
``python data/make_sample.py``: the same seed gives the same study.
"""

import sys
from pathlib import Path

import numpy as np

from rsacompare.schema.arrays import responses
from rsacompare.schema.store import write_netcdf

N_TRAIN, N_TEST, N_REPETITIONS, N_LATENT = 24, 12, 4, 4
ROIS = {"V1": slice(0, 15), "LOC": slice(15, 30), "VC": slice(0, 30)}
CATEGORIES = ("face", "house", "tool")


def make(folder: Path) -> None:
    """Write the three data files of the sample into `folder`."""
    rng = np.random.default_rng(2026)
    ids = np.array([f"picture{i:02d}" for i in range(N_TRAIN + N_TEST)])
    early, late, private = rng.standard_normal((3, len(ids), N_LATENT))

    def read(features: np.ndarray, n: int) -> np.ndarray:
        """Each of `n` columns is a random mixture of the features, of unit variance."""
        weights = rng.standard_normal((features.shape[1], n))
        return features @ (weights / np.linalg.norm(weights, axis=0))

    masks = {roi: np.isin(np.arange(30), np.r_[part]) for roi, part in ROIS.items()}
    rows = np.r_[np.arange(N_TRAIN), np.tile(np.arange(N_TRAIN, len(ids)), N_REPETITIONS)]
    subjects = {}
    for subject in ("sub-01", "sub-02", "sub-03"):
        signal = np.hstack([read(early, 15), read(late, 15)])
        noise = rng.standard_normal((len(rows), 30))
        subjects[subject] = (signal[rows] + noise).astype(np.float32)
    brain = responses(
        subjects,
        stimulus_id=ids[rows],
        split=np.where(rows < N_TRAIN, "train", "test"),
        roi_mask=masks,
        attrs={
            "title": "Sample: three simulated subjects",
            "description": "Simulated responses in the file format of rsacompare; not a brain.",
            "citation": "made by data/make_sample.py of rsacompare",
            "licence": "BSD-3-Clause",
            "simulated": True,
            "categories": {str(s): CATEGORIES[i % 3] for i, s in enumerate(ids)},
        },
    )
    write_netcdf(brain, folder / "responses.nc")
    both = np.hstack([early, late])
    for name, layers in {
        "tiny-a": {"early": early, "middle": both, "late": late},
        "tiny-b": {"first": private, "second": private, "third": private},
    }.items():
        held = {"stimulus_id": ids, "layers": np.array(list(layers))}
        for layer, features in layers.items():
            held[layer] = read(features, 20).astype(np.float32)
            held[f"{layer}.unit_index"] = np.sort(rng.choice(500, 20, replace=False))
            held[f"{layer}.n_units"] = np.array(500)
        held["note"] = np.array("simulated: units are random mixtures of latent features")
        np.savez_compressed(folder / f"{name}.npz", **held)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "sample")
