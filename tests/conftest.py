"""Settings of all tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from script_files import script

IN_ONE_THREAD = {"cli", "pipeline", "stages", "train"}
"""Folders whose tests train."""

# The same examples in every run, and no limit on their time: a change is judged by what it does, not by chance or by how busy
# the machine is. To look for new examples: pytest --hypothesis-profile=default
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


class FailuresAtOnce:
    """Names a failed test when it fails; pytest by itself says it when all others are done."""

    def __init__(self, terminal):
        self.terminal = terminal

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.terminal.write_line(f"\nFAILED {report.nodeid} ({report.when}): {reason(report)}", red=True)


def reason(report):
    """First line of what was raised."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr).split("\n", 1)[0]


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(FailuresAtOnce(terminal))


def pytest_collection_modifyitems(items):
    """Long tests first: none of them is left to one worker when the other has nothing to do any more."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def one_thread(request):
    """Results are equal to the last bit for a fixed number of threads; tiny networks are fastest with one."""
    if request.path.parent.name not in IN_ONE_THREAD:
        yield
        return
    import torch  # takes seconds, which tests without it need not wait for

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def torchvision_models():
    """``torchvision.models``, imported as the benchmarks do it."""
    networks = script("benchmarks/torchvision_networks.py")
    try:
        return networks.models()
    except ImportError:
        pytest.skip("torchvision is not installed")


@pytest.fixture(scope="session")
def shared_data():
    """A folder shared/data in or next to the checkout, with CIFAR shards and pretrained weights; most machines have none."""
    for parent in Path(__file__).resolve().parents:
        if (parent / "shared" / "data" / "unpack.py").is_file():
            return parent / "shared" / "data"
    pytest.skip("there is no shared/data in or next to the checkout")


@pytest.fixture(scope="session")
def real_cifar10(shared_data, tmp_path_factory):
    """A folder with the real CIFAR-10: $PARETRIM_DATA, or unpacked from the shards."""
    named = os.environ.get("PARETRIM_DATA")
    if named and (Path(named) / "cifar-10-batches-bin").is_dir():
        return Path(named)
    pytest.importorskip("PIL")  # which the script that unpacks needs
    folder = tmp_path_factory.mktemp("cifar")
    subprocess.run([sys.executable, shared_data / "unpack.py", folder, "cifar10"], check=True, capture_output=True)
    return folder
