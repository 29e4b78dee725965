"""The random graphs live with the tests of the graph; test folders are not packages, so their place is named here."""

import sys
from pathlib import Path

import pytest

from paretrim.graph.storage import save

sys.path.insert(0, str(Path(__file__).parent.parent / "graph"))

from session_graphs import GRAPH  # draws a random graph


@pytest.fixture
def file(tmp_path):
    save(GRAPH, tmp_path / "model.graph")
    return tmp_path / "model.graph"
