import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def shared_data():
    """A folder `shared/data` beside the checkout with CIFAR shards and pretrained weights, where there is one."""
    for parent in REPOSITORY.parents:
        if (parent / "shared" / "data" / "unpack.py").is_file():
            return parent / "shared" / "data"
    pytest.skip("no shared/data next to the checkout")


@pytest.fixture(scope="session")
def real_cifar10(tmp_path_factory):
    """A folder with the real CIFAR-10: $PARETRIM_DATA, or unpacked from the shards next to the checkout."""
    named = os.environ.get("PARETRIM_DATA")
    if named and (Path(named) / "cifar-10-batches-bin").is_dir():
        return Path(named)
    for parent in REPOSITORY.parents:
        unpack = parent / "shared" / "data" / "unpack.py"
        if unpack.is_file():
            folder = tmp_path_factory.mktemp("cifar")
            subprocess.run([sys.executable, unpack, folder, "cifar10"], check=True, capture_output=True)
            return folder
    pytest.skip("no CIFAR-10 in $PARETRIM_DATA and no shared/data next to the checkout")
