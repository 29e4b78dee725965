"""Scripts of this repository as modules, for tests of the functions in them."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def script(path: str) -> ModuleType:
    """The script at ``path``, seen from the root of the repository, run once as a module of its own name."""
    place = ROOT / path
    known = sys.modules.get(place.stem)
    if known is not None and known.__file__ == str(place):
        return known  # classes of a second copy would differ from those of the first
    spec = importlib.util.spec_from_file_location(place.stem, place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[place.stem] = module  # dataclasses look their module up there
    sys.path.insert(0, str(place.parent))  # as when it runs as a command, so that it finds the modules beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(place.parent))
    return module
