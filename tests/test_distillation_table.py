"""The tables of distillation losses are what their command makes of the stored lines."""

from script_files import ROOT, script


def test_the_tables_are_fresh(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    maker = script("benchmarks/distillation_table.py")
    page = maker.PAGE.read_text(encoding="utf-8")
    assert page == maker.page_of(page, maker.LINES.read_text(encoding="utf-8"))
    assert maker.page_of(
        f"before{maker.BEGIN}old{maker.END}after", '{"loss": "labels", "epochs": 1, "accuracies": [0.5, 0.7]}'
    ) == (
        f"before{maker.BEGIN}\n\n1 epochs, 2 seeds:\n\n| loss | accuracy, % | difference from labels, points |\n|---|---|---|\n"
        f"| labels | 60.0 |  |\n\n{maker.END}after"
    )
