"""Random graphs and tiny networks live with other tests; test folders are no packages, so their places are named here."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / folder) for folder in ("graph", "stages")]
