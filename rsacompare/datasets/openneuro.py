"""ds001246 (the GOD study at OpenNeuro): the commands that get it, and what a folder of it holds.

OpenNeuro keeps its images in git-annex, so a plain `git clone` gives links to nothing. The run
counts are those of all five subjects (FACTS 2): 24 training, 35 test and 20 imagery runs.
"""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

DATASET, VERSION = "ds001246", "1.2.1"
RUNS = {"perceptionTraining": 24, "perceptionTest": 35, "imageryTest": 20}
SUBJECTS = tuple(f"sub-{i:02d}" for i in range(1, 6))
AREAS = ("V1d", "V1v", "V2d", "V2v", "V3d", "V3v", "hV4", "LOC", "FFA", "PPA", "HVC")
PREPROCESSED = "derivatives/preproc-spm/output"
_POINTER = 32 * 1024  # a file of git-annex that stands for its contents is smaller


def commands(folder: str | Path) -> list[str]:
    """What to type to get the events, the preprocessed images and the ROI masks."""
    to = shlex.quote(str(folder))
    return [
        f"datalad clone https://github.com/OpenNeuroDatasets/{DATASET}.git {to}",
        f"git -C {to} checkout {VERSION}",
        f"datalad get -d {to} {to}/sourcedata {to}/{PREPROCESSED}",
    ]


def commands_without_datalad(folder: str | Path) -> list[str]:
    """The same without git-annex; it gets the raw images too."""
    to = shlex.quote(str(folder))
    return [
        "pip install openneuro-py",
        f"openneuro-py download --dataset={DATASET} --tag={VERSION} --target-dir={to}",
    ]


@dataclass
class Kind:
    """Files of one kind of one subject: how many there should be, and the state of each."""

    what: str
    expected: int
    states: dict[Path, str] = field(default_factory=dict)

    @property
    def count(self) -> Counter[str]:
        """How many are `there`, a `link` to nothing, or `absent`."""
        return Counter(self.states.values())

    @property
    def complete(self) -> bool:
        """All that are expected are there."""
        return self.count["there"] >= self.expected


def check(folder: str | Path) -> dict[str, list[Kind]]:
    """What a folder holds of ds001246, per subject.

    Returns
    -------
    dict
        {subject: kinds}: the events, preprocessed images of each kind of session, and the ROI
        masks. Subjects without any file are there with nothing.
    """
    root = Path(folder)
    found: dict[str, list[Kind]] = {}
    for subject in SUBJECTS:
        kinds = []
        for session, runs in RUNS.items():
            events = sorted((root / subject).glob(f"ses-{session}*/func/*_events.tsv"))
            images = [
                root
                / PREPROCESSED
                / subject
                / file.parent.parent.name
                / "func"
                / file.name.replace("_events.tsv", "_bold_preproc.nii.gz")
                for file in events
            ]
            kinds += [
                Kind(f"{session} events", runs, {f: state(f) for f in events}),
                Kind(f"{session} images", runs, {f: state(f) for f in images}),
            ]
        masks = [
            root / "sourcedata" / subject / "anat" / f"{subject}_mask_{side}_{area}.nii.gz"
            for side in ("LH", "RH")
            for area in AREAS
        ]
        kinds.append(Kind("ROI masks", len(masks), {f: state(f) for f in masks}))
        found[subject] = kinds
    return found


def state(file: Path) -> str:
    """`there`, `link` (git-annex knows the file, its contents are elsewhere) or `absent`."""
    if not file.exists():
        return "link" if file.is_symlink() else "absent"
    if file.stat().st_size < _POINTER:
        with open(file, "rb") as handle:
            start = handle.read(1024)
        # unlocked files, and links on systems without them, hold the place of their contents
        if start.startswith(b"/annex/objects/") or b".git/annex/objects/" in start:
            return "link"
    return "there"


def lines(folder: str | Path, found: dict[str, list[Kind]]) -> list[str]:
    """The result of :func:`check` as lines: a count each, and the first files that fail."""
    out = []
    for subject, kinds in found.items():
        for kind in kinds:
            count = kind.count
            text = f"{subject}  {kind.what:<26} {count['there']:>3} of {kind.expected}"
            bad = [f for f, s in kind.states.items() if s != "there"]
            if count["link"]:
                text += f", {count['link']} links without contents"
            if bad and any(kind.count[s] for s in ("there", "link")):
                more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
                text += f" (not there: {bad[0].relative_to(folder)}{more})"
            out.append(text)
    return out


def verdict(folder: str | Path, found: dict[str, list[Kind]]) -> str | None:
    """None where all is there, else one sentence with what to type."""
    there = [s for s, kinds in found.items() if any(k.count["there"] for k in kinds)]
    links = sum(k.count["link"] for kinds in found.values() for k in kinds)
    poor = [s for s, kinds in found.items() if not all(k.complete for k in kinds)]
    if not poor:
        return None
    if not there and not links:
        return f"{folder} holds nothing of {DATASET}; get it with: {' && '.join(commands(folder))}"
    text = f"{folder}: {DATASET} is not complete for {', '.join(poor)}"
    if links:
        text += f" ({links} files are links of git-annex without contents)"
    return f"{text}; go on with: {commands(folder)[-1]}"
