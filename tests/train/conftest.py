import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))  # the tiny networks are shared


@pytest.fixture(autouse=True)
def one_thread():
    """Results are equal to the last bit for a fixed number of threads; tiny networks are fastest with one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
