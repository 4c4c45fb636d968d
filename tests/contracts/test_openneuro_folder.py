"""ds001246: the commands, and the folder afterwards, on the real events of sub-01."""

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rsacompare import cli
from rsacompare.datasets import openneuro

DATA = os.environ.get("RSACOMPARE_DATA", "")
pytestmark = pytest.mark.skipif(not DATA, reason="RSACOMPARE_DATA is not set")
IMAGE = b"\x1f\x8b" + b"0" * 100


def annex_link(file):
    """As git-annex leaves a file whose contents were not fetched."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.symlink_to("../../../.git/annex/objects/aa/bb/MD5E-s1--x.nii.gz/MD5E-s1--x.nii.gz")


def image(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(IMAGE)


@pytest.fixture
def folder(tmp_path):
    """The whole data set with tiny images; the events of sub-01 serve all five subjects."""
    root = tmp_path / "my ds001246"
    real = Path(DATA) / "ds001246" / "sub-01"
    for subject in openneuro.SUBJECTS:
        for events in sorted(real.rglob("*_events.tsv")):
            place = str(events.relative_to(real)).replace("sub-01", subject)
            (root / subject / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(events, root / subject / place)
            name = place.replace("_events.tsv", "_bold_preproc.nii.gz")
            image(root / "derivatives/preproc-spm/output" / subject / name)
        for side in ("LH", "RH"):
            for area in openneuro.AREAS:
                name = f"{subject}_mask_{side}_{area}.nii.gz"
                image(root / "sourcedata" / subject / "anat" / name)
    return root


def call(*arguments):
    return CliRunner().invoke(cli.app, ["fetch", "ds001246", *map(str, arguments)])


def images(folder, subject="sub-03", session="perceptionTest"):
    place = folder / "derivatives/preproc-spm/output" / subject
    return sorted(place.glob(f"ses-{session}*/func/*.nii.gz"))


def test_real_run_counts_are_those_of_the_paper(folder):
    found = openneuro.check(folder)
    assert list(found) == ["sub-01", "sub-02", "sub-03", "sub-04", "sub-05"]
    for kinds in found.values():
        counts = {kind.what: (kind.count["there"], kind.expected) for kind in kinds}
        assert counts == {
            "perceptionTraining events": (24, 24),
            "perceptionTraining images": (24, 24),
            "perceptionTest events": (35, 35),
            "perceptionTest images": (35, 35),
            "imageryTest events": (20, 20),
            "imageryTest images": (20, 20),
            "ROI masks": (22, 22),
        }
    result = call("--to", folder)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == f"{folder}: complete"
    assert call("--to", folder, "--quiet").stdout.splitlines() == [str(folder)]


def test_links_and_gaps_are_counted_and_named(folder):
    linked, absent = images(folder)[:2], images(folder)[5]
    for file in linked:
        file.unlink()
        annex_link(file)
    absent.unlink()
    mask = folder / "sourcedata/sub-03/anat/sub-03_mask_LH_V1d.nii.gz"
    mask.write_text("/annex/objects/MD5E-s1--x.nii.gz\n")  # an unlocked file without contents
    result = call("--to", folder)
    assert result.exit_code == 1
    lines = [line for line in result.stdout.splitlines() if line.startswith("sub-03")]
    name = linked[0].relative_to(folder)
    test = next(line for line in lines if "perceptionTest images" in line)
    assert "32 of 35, 2 links without contents" in test
    assert f"(not there: {name} and 2 more)" in test
    assert any("ROI masks" in line and "21 of 22, 1 links" in line for line in lines)
    message = result.stderr.strip()
    assert "not complete for sub-03 (3 files are links of git-annex" in message
    assert f"datalad get -d '{folder}'" in message
    assert "\n" not in message


def test_a_fresh_clone_is_all_links(folder):
    for file in folder.rglob("*.nii.gz"):
        file.unlink()
        annex_link(file)
    result = call("--to", folder)
    assert result.exit_code == 1
    assert "(505 files are links" in result.stderr  # 5 x (79 runs + 22 masks)
    assert "24 of 24" in result.stdout  # the events are text, and there


def test_a_missing_session_shows_in_the_run_count(folder):
    shutil.rmtree(folder / "sub-02" / "ses-imageryTest03")
    kinds = {kind.what: kind for kind in openneuro.check(folder)["sub-02"]}
    gone = len(list((folder / "sub-01" / "ses-imageryTest03" / "func").glob("*_events.tsv")))
    assert kinds["imageryTest events"].count["there"] == 20 - gone
    assert not kinds["imageryTest events"].complete
    assert "not complete for sub-02;" in openneuro.verdict(folder, openneuro.check(folder))


def test_the_folder_at_hand_has_events_of_one_subject_alone():
    folder = Path(DATA) / "ds001246"
    found = openneuro.check(folder)
    counts = {kind.what: kind.count for kind in found["sub-01"]}
    assert counts["perceptionTest events"]["there"] == 35
    assert counts["perceptionTest images"]["absent"] == 35
    assert all(not kind.states for kind in found["sub-02"][:6])
    verdict = openneuro.verdict(folder, found)
    assert "not complete for sub-01, sub-02, sub-03, sub-04, sub-05" in verdict


def test_what_to_type_where_there_is_nothing_yet(tmp_path):
    result = call("--to", tmp_path / "new one")
    assert result.exit_code == 0
    to = f"'{tmp_path}/new one'"
    assert result.stdout.splitlines()[:3] == [
        f"datalad clone https://github.com/OpenNeuroDatasets/ds001246.git {to}",
        f"git -C {to} checkout 1.2.1",
        f"datalad get -d {to} {to}/sourcedata {to}/derivatives/preproc-spm/output",
    ]
    assert "openneuro-py download --dataset=ds001246 --tag=1.2.1" in result.stdout
    (tmp_path / "empty").mkdir()
    result = call("--to", tmp_path / "empty")
    assert result.exit_code == 1
    assert "holds nothing of ds001246; get it with: datalad clone" in result.stderr
    result = call()
    assert result.exit_code == 1
    assert "rsacompare fetch ds001246 --to FOLDER" in result.stderr
