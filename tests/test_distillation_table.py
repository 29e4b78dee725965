"""The tables of distillation losses are what their command makes of the stored lines."""

import importlib.util
from pathlib import Path

PLACE = Path(__file__).resolve().parent.parent / "benchmarks" / "distillation_table.py"


def test_the_tables_are_fresh():
    spec = importlib.util.spec_from_file_location("distillation_table", PLACE)
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    page = maker.PAGE.read_text(encoding="utf-8")
    assert page == maker.page_of(page, maker.LINES.read_text(encoding="utf-8"))
    assert maker.page_of(
        f"before{maker.BEGIN}old{maker.END}after", '{"loss": "labels", "epochs": 1, "accuracies": [0.5, 0.7]}'
    ) == (
        f"before{maker.BEGIN}\n\n1 epochs, 2 seeds:\n\n| loss | accuracy, % | difference to labels, points |\n|---|---|---|\n"
        f"| labels | 60.0 |  |\n\n{maker.END}after"
    )
