"""How a BIDS data set is laid out: which files belong together, and what is known of ds001246."""

from __future__ import annotations

import fnmatch
import glob
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsacompare import plugins
from rsacompare.errors import DataError, ProtocolError

# what a scan is named by; what a pipeline adds (desc, space, res, …) does not count
SCAN_ENTITIES = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run")


@dataclass(frozen=True)
class Layout:
    """What a data set's files and events mean; every field is an option of `load_bids`.

    The defaults are those of any BIDS data set; `LAYOUTS` holds the sets we know.
    """

    signs: tuple[str, ...] = ()  # what `dataset_description.json` says of this data set
    tasks: tuple[str, ...] = ()
    bold: str = "derivatives/*/{subject}/**/*_task-{task}_*desc-preproc_bold.nii*"
    masks: Mapping[str, Any] = field(default_factory=dict)
    stimulus: tuple[str, ...] = ("trial_type",)
    event_column: str = "trial_type"
    events: tuple[str, ...] | None = None
    nuisance_events: tuple[str, ...] = ()
    category: str | None = None
    category_pattern: str | None = None
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    splits: Mapping[str, str] | None = None
    drop_repeats: bool = False
    discarded: int = 0
    shift: int | None = None
    complete_events: bool = False
    title: str = ""
    citation: str = ""


def _god_masks() -> dict[str, tuple[str, ...]]:
    def both(*areas: str) -> tuple[str, ...]:
        return tuple(
            f"sourcedata/{{subject}}/anat/{{subject}}_mask_{side}_{area}.nii.gz"
            for area in areas
            for side in ("LH", "RH")
        )

    early = {f"V{n}": (f"V{n}d", f"V{n}v") for n in (1, 2, 3)}
    higher = {"V4": ("hV4",), "LOC": ("LOC",), "FFA": ("FFA",), "PPA": ("PPA",), "HVC": ("HVC",)}
    lower = sum(early.values(), ())
    areas = {**early, **higher, "LVC": lower, "VC": lower + sum(higher.values(), ())}
    return {roi: both(*names) for roi, names in areas.items()}


LAYOUTS = {
    "generic": Layout(),
    "ds001246": Layout(
        signs=("ds001246", "Generic Object Decoding"),
        tasks=("perception", "imagery"),
        bold="derivatives/preproc-spm/output/{subject}/ses-*/func/*_task-{task}_*bold_preproc.nii*",
        masks=_god_masks(),
        stimulus=("stimulus_name", "category_name"),
        event_column="event_type",
        events=("stimulus", "imagery"),
        nuisance_events=("cue", "evaluation"),
        category_pattern=r"(n\d+)",
        columns={"god_label": ("stimulus_id", "category_id"), "vividness": ("evaluation",)},
        splits={
            "perceptionTraining*": "train",
            "perceptionTest*": "test",
            "imageryTest*": "imagery",
        },
        drop_repeats=True,
        discarded=3,
        shift=1,
        complete_events=True,
        title="Generic object decoding (Horikawa & Kamitani 2017), OpenNeuro ds001246",
        citation="Horikawa T, Kamitani Y (2017). Generic decoding of seen and imagined objects "
        "using hierarchical visual features. Nature Communications 8:15037. "
        "doi:10.1038/ncomms15037",
    ),
}


@dataclass(frozen=True)
class Run:
    """One scan: its preprocessed images and its events."""

    subject: str
    session: str
    task: str
    label: str
    bold: Path
    events: Path
    repetition_time: float


def description(root: Path) -> dict[str, Any]:
    """`dataset_description.json`, empty where there is none."""
    file = root / "dataset_description.json"
    return _json(file) if file.is_file() else {}


def find_layout(name: str, root: Path) -> Layout:
    """A layout by name; with `auto` by what the data set says it is."""
    if name == "auto":
        text = json.dumps(description(root))
        known = (v for v in LAYOUTS.values() if any(sign in text for sign in v.signs))
        return next(known, LAYOUTS["generic"])
    if name not in LAYOUTS:
        raise ProtocolError(plugins.unknown("layout", name, ["auto", *LAYOUTS]))
    return LAYOUTS[name]


def entities(file: Path) -> dict[str, str]:
    """The `key-value` parts of a BIDS file name.

    Examples
    --------
    >>> entities(Path("sub-01_task-rest_run-02_bold.nii.gz"))
    {'sub': '01', 'task': 'rest', 'run': '02'}
    """
    parts = (part.split("-", 1) for part in file.name.split(".")[0].split("_") if "-" in part)
    return {key: value for key, value in parts}


def find_subjects(root: Path, wanted: Sequence[str] | None) -> list[str]:
    """Subjects as `sub-01`, … : those asked for, else all there are.

    Raises
    ------
    DataError
        No such folder, or no subjects in it.
    ProtocolError
        A subject there is not.
    """
    if not root.is_dir():
        raise DataError(f"no folder {root}")
    there = natural(p.name for p in root.glob("sub-*") if p.is_dir())
    if wanted is None:
        if not there:
            raise DataError(f"{root} has no folder sub-*: it is not the root of a BIDS data set")
        return there
    names = [s if str(s).startswith("sub-") else f"sub-{s}" for s in wanted]
    for name in names:
        if name not in there:
            raise ProtocolError(plugins.unknown("subject", name, there))
    return names


def find_runs(
    root: Path,
    raw: Path,
    layout: Layout,
    subject: str,
    sessions: Sequence[str] | None,
    repetition_time: float | None,
) -> list[Run]:
    """The runs of a subject in order of session, task and run.

    Raises
    ------
    DataError
        No images; two images of one scan; no events; no repetition time.
    """
    found: dict[tuple[tuple[str, str], ...], Path] = {}
    for task in layout.tasks or ("*",):
        pattern = filled(layout.bold, subject, task)
        for file in matching(root, pattern):
            held = entities(file)
            if not any(
                fnmatch.fnmatch(held.get("ses", ""), s.removeprefix("ses-"))
                for s in (["*"] if sessions is None else sessions)
            ):
                continue
            key = tuple((k, held[k]) for k in SCAN_ENTITIES if k in held)
            if found.setdefault(key, file) != file:
                raise DataError(
                    f"two images of one scan: {found[key]} and {file}; name one kind with "
                    "`bold`, e.g. bold='derivatives/fmriprep/{subject}/**/"
                    "*_task-{task}_*space-T1w_desc-preproc_bold.nii.gz'"
                )
    if not found:
        raise DataError(
            f"{subject}: no images match {filled(layout.bold, subject)} in "
            f"{root} for tasks {', '.join(layout.tasks) or 'of any name'}; name them with `bold`, "
            "get them (datalad get), or leave the subject out with `subjects`"
        )
    runs = []
    for key in sorted(found, key=lambda k: _natural_key("_".join(map("-".join, k)))):
        held = dict(key)
        runs.append(
            Run(
                subject=subject,
                session=held.get("ses", ""),
                task=held.get("task", ""),
                label=held.get("run", ""),
                bold=found[key],
                events=_events(raw, held, found[key]),
                repetition_time=repetition_time or _repetition_time(raw, held, found[key]),
            )
        )
    return runs


def split_of(run: Run, splits: Mapping[str, str]) -> str:
    """The split of a run by the name of its session, or its task where it has no session."""
    name = run.session or run.task
    for pattern, split in splits.items():
        if fnmatch.fnmatch(name, pattern.removeprefix("ses-")):
            return split
    raise ProtocolError(f"{run.bold}: no pattern of `splits` ({', '.join(splits)}) fits '{name}'")


def filled(pattern: str, subject: str, task: str = "{task}") -> str:
    """A pattern with its `{subject}` and `{task}` replaced, and no other braces touched."""
    return str(pattern).replace("{subject}", subject).replace("{task}", task)


def matching(root: Path, pattern: str) -> list[Path]:
    """Files by pattern below `root`, links without content included, in natural order."""
    return [root / p for p in natural(glob.glob(pattern, root_dir=root, recursive=True))]


def natural(names: Any) -> list[str]:
    """Sorted so that run-2 comes before run-10."""
    return sorted(names, key=_natural_key)


def _natural_key(name: str) -> list[tuple[int, str]]:
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name)]


def _inherited(raw: Path, held: Mapping[str, str], bold: Path, ending: str) -> list[Path]:
    """Files that apply to a scan, the nearest first (the inheritance principle of BIDS)."""
    folder = raw / f"sub-{held['sub']}" if "sub" in held else raw
    folder = folder / f"ses-{held['ses']}" if "ses" in held else folder
    places = [bold.parent, folder / "func", folder, raw / f"sub-{held.get('sub', '')}", raw]
    files = []
    for place in dict.fromkeys(places):
        near = [p for p in sorted(place.glob(f"*{ending}")) if _applies(entities(p), held)]
        files += sorted(near, key=lambda p: -len(entities(p)))
    return files


def _applies(named: Mapping[str, str], held: Mapping[str, str]) -> bool:
    named = {k: v for k, v in named.items() if k in SCAN_ENTITIES}

    def plain(value: str) -> str:
        return value.lstrip("0") if value.isdigit() else value

    return all(plain(held.get(k, "")) == plain(v) for k, v in named.items())


def _events(raw: Path, held: Mapping[str, str], bold: Path) -> Path:
    files = _inherited(raw, held, bold, "_events.tsv")
    if not files:
        name = "_".join(f"{k}-{v}" for k, v in held.items())
        raise DataError(f"{bold}: no events; expected {name}_events.tsv below {raw}")
    return files[0]


def _repetition_time(raw: Path, held: Mapping[str, str], bold: Path) -> float:
    """Of the nearest side-car; 0 where none says (the image's own header may)."""
    for file in _inherited(raw, held, bold, "bold.json") + _inherited(
        raw, held, bold, "bold_preproc.json"
    ):
        value = _json(file).get("RepetitionTime")
        if value is not None:
            if not isinstance(value, (int, float)) or not 0 < value < 60:
                raise DataError(f"{file}: RepetitionTime {value!r}; seconds are expected")
            return float(value)
    return 0.0


def _json(file: Path) -> dict[str, Any]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise DataError(f"{file} cannot be read as JSON: {err}") from err
    if not isinstance(held, dict):
        raise DataError(f"{file} cannot be read as JSON: an object is expected")
    return held
