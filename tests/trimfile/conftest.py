"""Random graphs live with the tests of graphs; test folders are not packages, so their place is named here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "graph"))
