"""The picture of a sensitivity scan, and its place in the page and in the run folder."""

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import fakes
import pytest

from paretrim.curves import Curve, CurvePoint, Sensitivity
from paretrim.metric import ACCURACY, Metric
from paretrim.report import page
from paretrim.report.sensitivity import COLUMNS, HEIGHT, WIDTH, picture, render, section, write
from paretrim.results.run_folder import SENSITIVITY, keep_sensitivity, sensitivity_in

SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999)


def scan(pattern="unstructured", layers=7, metric=ACCURACY):
    """Layers that lose accuracy earlier, the smaller their number."""
    curves = []
    for i in range(layers):
        losses = [0.3 + 2 * share ** (1 + i) for share in SHARES]
        points = tuple(CurvePoint(s, loss, math.exp(0.2 - loss)) for s, loss in zip(SHARES, losses, strict=True))
        names = (f"layer1.{i}.conv1",) if pattern != "channel" else (f"layer1.{i}.conv2", "conv1", "downsample")
        curves.append(Curve(names, 1000 * (i + 1), points))
    return Sensitivity(pattern, "magnitude", 512, metric, 0.3, math.exp(-0.1), tuple(curves))


SCANS = (scan(), scan("1x4"), scan("channel", 3))


def test_every_layer_has_a_panel_with_both_lines():
    root = ElementTree.fromstring(render(SCANS))
    kinds = [node.get("class") for node in root.iter("{http://www.w3.org/2000/svg}path")]
    assert kinds.count("value") == kinds.count("loss") == 17
    text = render(SCANS)
    assert "layer1.0.conv2 and 2 more" in text
    assert "1,000 channels" in text
    assert "layer1.2.conv1: 3,000 weights; zeros 0.0 %: 90.48 %, loss 0.3; 10.0 %: 90.30 %, loss 0.302" in text


def test_points_are_where_their_numbers_say():
    one = replace(scan(layers=1), metric=Metric("error", "", higher_is_better=False))
    found = re.search(r'class="value" d="M([^"]*)"', picture(one))[1]
    points = [tuple(map(float, pair.split())) for pair in found.split("L")]
    across, upwards = [x for x, _ in points], [y for _, y in points]
    assert all(0 <= x <= WIDTH for x in across)
    assert all(0 <= y <= HEIGHT for y in upwards)
    widths = [(b - a) / (d - c) for a, b, c, d in zip(across, across[1:], SHARES, SHARES[1:], strict=False)]
    assert max(widths) - min(widths) < 2  # a straight scale, in tenths of pixels
    assert upwards == sorted(upwards)  # values fall, and the picture counts from the top


@pytest.mark.parametrize(("layers", "rows"), [(1, 1), (COLUMNS, 1), (COLUMNS + 1, 2)])
def test_the_picture_is_as_high_as_it_has_rows(layers, rows):
    assert f'viewBox="0 0 {COLUMNS * WIDTH} {rows * HEIGHT}"' in picture(scan(layers=layers))


def test_the_page_shows_scans_only_where_there_are_some():
    outcomes = fakes.baseline(1)
    assert page.render(outcomes) == page.render(outcomes, scans=())
    shown = page.render(outcomes, scans=SCANS)
    assert section(SCANS) in shown
    assert shown.count('<svg class="scan"') == 3
    assert section(()) == ""


def test_names_of_layers_are_no_markup():
    evil = replace(scan(layers=1), curves=(replace(scan(layers=1).curves[0], layers=("<script>&",)),))
    assert "<script>" not in section((evil,))
    ElementTree.fromstring(render((evil,)))


def test_scans_in_a_run_folder(tmp_path):
    assert sensitivity_in(tmp_path) == ()
    keep_sensitivity(tmp_path, SCANS)
    assert sensitivity_in(tmp_path) == SCANS
    (tmp_path / SENSITIVITY).write_text('[{"curves": 3}]')
    with pytest.warns(
        UserWarning, match=r"sensitivity\.json' cannot be read .* without it; to have it again, run paretrim sensi"
    ):
        assert sensitivity_in(tmp_path) == ()


def test_the_picture_as_a_file(tmp_path):
    write(SCANS, tmp_path / "scan.svg")
    assert (tmp_path / "scan.svg").read_text(encoding="utf-8") == render(SCANS)
