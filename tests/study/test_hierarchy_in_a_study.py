"""A study's order of ROIs is checked against the data before any metric runs."""

import numpy as np
import pytest

import rsacompare as rc
from rsacompare.errors import ProtocolError
from rsacompare.study.inputs import check_inputs
from rsacompare.study.protocol import load_study

STUDY = """
name = "order"
{rois}
[brain.kriegeskorte92]
[networks.alexnet_a2020]
[metrics.rsa]
[inference]
hierarchy = {hierarchy}
"""


@pytest.mark.parametrize(
    ("rois", "hierarchy", "said"),
    [
        ("", '["V1", "V2", "LCO"]', "unknown roi in hierarchy 'LCO'; did you mean 'LOC'"),
        # an ROI that is there, but not in this study
        ('rois = ["V1", "V2", "LOC"]', '["V1", "V2", "V4"]', "unknown roi in hierarchy 'V4'"),
    ],
)
def test_unknown_names_are_told_with_their_place(tmp_path, rois, hierarchy, said):
    file = tmp_path / "study.toml"
    file.write_text(STUDY.format(rois=rois, hierarchy=hierarchy))
    ids = [f"s{i}" for i in range(4)]
    rdm = np.arange(6.0)
    brain = rc.rdms({"sub-01": dict.fromkeys(["V1", "V2", "V4", "LOC"], rdm)}, stimulus_id=ids)
    network = rc.rdms({"alexnet_a2020": {"l1": rdm}}, stimulus_id=ids, of="network")
    study = load_study(file)
    with pytest.raises(ProtocolError, match=said) as err:
        check_inputs(study, {"kriegeskorte92": brain}, network)
    assert "study.toml, [inference] hierarchy" in str(err.value)


def test_known_names_pass(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(STUDY.format(rois="", hierarchy='["LOC", "V1", "V2"]'))
    assert load_study(file).inference.hierarchy == ["LOC", "V1", "V2"]
