import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data():
    """A folder shared/data next to the checkout, with CIFAR shards and pretrained weights; most machines have none."""
    for parent in Path(__file__).parents[2].parents:
        if (parent / "shared" / "data" / "unpack.py").is_file():
            return parent / "shared" / "data"
    pytest.skip("no shared/data next to the checkout")


@pytest.fixture(scope="session")
def real_cifar10(shared_data, tmp_path_factory):
    """A folder with the real CIFAR-10: $PARETRIM_DATA, or unpacked from the shards."""
    named = os.environ.get("PARETRIM_DATA")
    if named and (Path(named) / "cifar-10-batches-bin").is_dir():
        return Path(named)
    folder = tmp_path_factory.mktemp("cifar")
    subprocess.run([sys.executable, shared_data / "unpack.py", folder, "cifar10"], check=True, capture_output=True)
    return folder
