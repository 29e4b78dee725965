"""The tables of distillation losses are what their command makes of the stored lines."""

from script_files import ROOT, script


def test_the_tables_are_fresh(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    maker = script("benchmarks/distillation_table.py")
    page = maker.PAGE.read_text(encoding="utf-8")
    assert page == maker.page_of(page, maker.LINES.read_text(encoding="utf-8"))
    assert maker.tables('{"loss": "labels", "epochs": 1, "accuracies": [0.5, 0.7]}') == (
        "1 epochs, 2 seeds:\n\n| loss | accuracy, % | difference from labels, points |\n|---|---|---|\n| labels | 60.0 |  |"
    )


def test_every_arm_of_the_study_has_a_row_with_its_difference_from_labels(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    maker = script("benchmarks/distillation_table.py")
    rows = maker.study_table().splitlines()[2:]
    arms = [label for label in maker.points(maker.RECOVERY) if label != "dense"]
    assert len(rows) == len(maker.LEARNED) == len(arms)
    plain, kd = (maker.points(maker.RECOVERY)[maker.recovered(step)].deployed.value for step in ("labels", "kd"))
    assert f"| kd | the dense ResNet-20 | {100 * kd:.1f} | {100 * (kd - plain):+.1f} [" in rows[1]
