"""The pages: numbers of the contrast table, banner, links, files, text that can be pasted."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from rsacompare.errors import DataError
from rsacompare.reporting.numbers import interval, number, p_value
from rsacompare.reporting.pages import report
from rsacompare.reporting.reading import Reading
from rsacompare.schema import store
from rsacompare.schema.results import add_extra, iter_extras


def _pages(folder):
    return sorted(folder.glob("*.html"))


def _parse(path):
    """Pages are well-formed XML too, so an XML parser is a strict judge of them."""
    return ElementTree.fromstring(path.read_text(encoding="utf-8"))


def _text(element):
    return " ".join(" ".join(element.itertext()).split())


def test_there_is_an_index_and_a_page_per_metric(small_pages, real_pages):
    assert [p.name for p in _pages(small_pages)] == ["decoding.html", "index.html", "rsa.html"]
    assert [p.name for p in _pages(real_pages)] == ["index.html", "rsa.html"]


def test_pages_are_well_formed_and_need_nothing_from_outside(small_pages, real_pages):
    for page in _pages(small_pages) + _pages(real_pages):
        root = _parse(page)
        assert root.tag == "html"
        assert root.attrib["lang"] == "en"
        images = root.findall(".//img")
        assert len(images) >= 1
        for image in images:
            assert image.attrib["src"].startswith("data:image/svg+xml;base64,")
            assert len(image.attrib["alt"]) > 40
        for element in root.iter():
            for name in ("src", "href"):
                assert not re.match(r"(https?:)?//", element.attrib.get(name, ""))
        assert not re.search(r"url\(|@import|https?://", page.read_text(encoding="utf-8"))


def test_links_lead_to_files_of_the_output_folder(small_pages, small_result, tmp_path):
    def linked(folder):
        return {a.attrib["href"] for page in _pages(folder) for a in _parse(page).iter("a")}

    for target in linked(small_pages):
        assert (small_pages / target).is_file(), target
    tables = {"scores.csv", "summary.csv", "contrasts.csv", "results.nc", "provenance.json"}
    for name in tables:
        (tmp_path / name).touch()
    report(small_result, tmp_path)
    assert linked(tmp_path) == tables | linked(small_pages)
    report(small_result, tmp_path / "new", files_in=tmp_path)  # as a rebuild does
    assert linked(tmp_path / "new") == tables | linked(small_pages)


def test_figures_stand_as_svg_and_as_sharp_png(small_pages):
    svgs = {p.stem for p in (small_pages / "figures").glob("*.svg")}
    pngs = {p.stem for p in (small_pages / "figures").glob("*.png")}
    assert svgs == pngs
    kinds = ("roi-panels", "layer-pairs-1", "heat-maps")
    assert svgs == {"answer"} | {f"{m}-{k}" for m in ("decoding", "rsa") for k in kinds}
    for name in pngs:
        with Image.open(small_pages / "figures" / f"{name}.png") as image:
            assert image.info["dpi"][0] > 199
            assert np.asarray(image.convert("L")).std() > 5
    left = [p.name for p in small_pages.rglob(".*")]
    assert left == []  # no temporary file stays behind


@pytest.mark.parametrize("metric", ["decoding", "rsa"])
def test_contrast_table_holds_every_row_with_its_numbers(metric, small_pages, small_result):
    section = next(
        s for s in _parse(small_pages / f"{metric}.html").iter("section")
        if s.attrib["id"] == "contrasts"
    )  # fmt: skip
    lines = [
        [_text(cell) for cell in row]
        for row in section.iter("tr")
        if row.attrib.get("class") != "group" and row.find("td") is not None
    ]
    reading = Reading(small_result)
    expected = []
    for pairing in ("mean", "depth", "best", "ordinal"):
        for r in reading.rows(metric, None, pairing):
            layers = {
                "ordinal": [f"{r.layer_a} {r.layer_b}"],
                "best": [f"{r.layer_a} (71 %) {r.layer_b} (64 %)"],
            }.get(pairing, [])
            beyond = p_value(r.p_beyond, 1000)
            assert beyond == p_value(r.p / 2, 1000)
            ps = [p_value(r.p), p_value(r.p_fwer), beyond, p_value(r.p_equivalence)]
            size = [number(r.difference, signed=True), interval(r.ci_low, r.ci_high)]
            bound = f"±{number(r.bound)}"
            expected.append([r.roi, *layers, *size, f"{r.dof:g}", *ps, bound, r.outcome])
    assert len(expected) == 3 * (3 + 3)
    assert lines == expected


def test_unequal_layers_have_no_ordinal_rows_and_the_page_says_why(real_pages):
    text = _text(_parse(real_pages / "rsa.html"))
    assert (
        "No rows where layer counts differ: alexnet_w1a2 has 6 layers, resnet50_w1a2 has 18."
        in text
    )


def test_simulated_stands_on_top_of_every_page_of_a_simulated_study_only(small_pages, real_pages):
    for folder, expected in ((small_pages, True), (real_pages, False)):
        for page in _pages(folder):
            first = next(iter(_parse(page).find("body")))
            assert (_text(first).startswith("SIMULATED DATA")) == expected


def test_index_tells_data_intervals_notes_and_provenance(small_pages):
    text = _text(_parse(small_pages / "index.html"))
    for expected in (
        "Is sim-a closer to the brain than sim-b?",
        "Five brains & <ten> regions.",  # escaped in the source, whole for the reader
        "conditional on the fitted models",
        "decoding: subjects, stimuli and units; RSA: subjects and stimuli",
        "p ≥ 0.0625",  # five subjects
        "2 voxels of sub-01 never vary",
        "decoding cannot use brain RDMs",
        "ab" * 32,
        f"numpy {np.__version__}",
        "random state 0",
        "Left out: training stimuli and draw of units.",
    ):
        assert expected in text, expected
    assert "<ten>" not in (small_pages / "index.html").read_text(encoding="utf-8")


def test_sign_flip_floor_is_not_told_where_there_are_enough_subjects(real_pages):
    text = _text(_parse(real_pages / "index.html"))
    assert "(n = 4: p ≥ 0.125, two-sided)" in text
    assert "n = 15" not in text


def test_metric_page_has_meaning_ceiling_and_methods_with_citations(small_pages):
    root = _parse(small_pages / "decoding.html")
    text = _text(root)
    assert "Each unit's activation is predicted from the voxels" in text
    assert "does not bound a better decoder" in text
    methods = _text(next(s for s in root.iter("section") if s.attrib["id"] == "methods"))
    for expected in (
        "sim-a, 3 layers; sim-b, 3 layers",
        "n = 5",
        "4 degrees of freedom",
        "1,000 draws",
        "subjects, stimuli and units",
        "n_voxels = 500",
        "Horikawa T, Kamitani Y (2017)",
        "Schütt HH",
        "Holm S (1979)",
    ):
        assert expected in methods, expected


def test_truth_table_and_other_tables_are_tables(phantom_result, tiny_result, tmp_path):
    _, roles = next(iter_extras(phantom_result, ""))
    arrays = {k: xr.DataArray(v, dims="row") for k, v in roles.items()}
    result = add_extra(
        tiny_result, kind="table", metric="", title="The truth", caption="Built in.",
        arrays=arrays, columns={"share of the network": "what the region has of it"},
    )  # fmt: skip
    index = report(result, tmp_path)
    text = _text(_parse(index))
    assert "The truth network share of the network sim-alexnet 0.410 sim-resnet50 0.320" in text
    explained = next(d for d in _parse(index).iter("dl"))
    assert _text(explained) == "share of the network what the region has of it"


def test_stored_result_gives_the_same_pages(small_result, small_pages, tmp_path):
    store.write_netcdf(small_result, tmp_path / "results.nc")
    index = report(tmp_path, tmp_path / "pages")
    assert index == tmp_path / "pages" / "index.html"
    for page in _pages(small_pages):
        assert (tmp_path / "pages" / page.name).read_bytes() == page.read_bytes()


def test_a_rebuild_leaves_no_page_or_figure_of_an_earlier_report(tiny_result, tmp_path):
    report(tiny_result, tmp_path)
    earlier = (tmp_path / "rsa.html").read_text("utf-8").replace("rsa-", "gone-")
    (tmp_path / "gone.html").write_text(earlier, encoding="utf-8")
    (tmp_path / "mine.html").write_text("<p>not made by us</p>", encoding="utf-8")
    before = {p.name for p in (tmp_path / "figures").iterdir()}
    for name in ("gone-heat-maps.svg", "gone-heat-maps.png", "notes.txt"):
        (tmp_path / "figures" / name).write_bytes(b"x")
    report(tiny_result, tmp_path)
    assert {p.name for p in _pages(tmp_path)} == {"index.html", "mine.html", "rsa.html"}
    assert {p.name for p in (tmp_path / "figures").iterdir()} == before | {"notes.txt"}


def test_the_pairing_of_the_answer_comes_first_and_open(real_pages):
    section = next(
        s for s in _parse(real_pages / "rsa.html").iter("section") if s.attrib["id"] == "contrasts"
    )
    assert _text(section.find("h3")) == "Pairing: depth, which the first page shows"
    folded = [_text(s) for s in section.iter("summary")]
    assert [s.split(" (")[0] for s in folded] == ["Pairing: mean", "Pairing: best"]
    assert all(re.search(r"\(\d+ rows?: \d+ ", s) for s in folded)


def test_missing_or_broken_result_is_an_error_and_writes_nothing(tmp_path):
    with pytest.raises(DataError, match="no file"):
        report(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "results.nc").write_bytes(b"\x89HDF\r\n\x1a\nbroken")
    with pytest.raises(DataError, match="cannot be read"):
        report(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_metric_called_index_has_a_page_of_its_own(tiny_result, tmp_path):
    result = tiny_result.assign_coords(metric=["index"])
    meaning = {"index": json.loads(result.attrs["meaning"])["rsa"]}
    result["contrast_metric"] = ("contrast", np.array(["index"] * result.sizes["contrast"]))
    result.attrs["meaning"] = json.dumps(meaning)
    report(result, tmp_path)
    assert [p.name for p in _pages(tmp_path)] == ["index-2.html", "index.html"]
    assert "The answer" in _text(_parse(tmp_path / "index.html"))


def test_one_network_has_pages_without_contrasts(make_result, tmp_path):
    result = make_result.result(
        ["rsa"],
        {"a": ["l1", "l2"]},
        {"V1": ["s1", "s2"]},
        [["a", "a"]],
        np.random.default_rng(0),
    ).isel(contrast=slice(0, 0))
    result.attrs["contrast"] = "[]"
    text = _text(_parse(report(result, tmp_path)))
    assert "Nothing was contrasted, so no network won or lost" in text
    assert "Nothing was contrasted." in _text(_parse(tmp_path / "rsa.html"))
    assert not (tmp_path / "figures" / "answer.svg").exists()


def test_permutation_p_is_never_zero_on_a_page(tiny_result, tmp_path):
    tiny_result["p_null"] = tiny_result["p_null"] * 0
    report(tiny_result, tmp_path)
    rows = [
        [_text(c) for c in tr]
        for s in _parse(tmp_path / "rsa.html").iter("section")
        if s.attrib["id"] == "maps"
        for tr in s.iter("tr")
        if tr.find("td") is not None
    ]
    assert len(rows) == 2
    assert {row[5] for row in rows} == {"< 0.001"}  # 1,000 permutations: 1 / 1001
