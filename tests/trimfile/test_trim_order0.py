"""Comparison with an independent coder: an adaptive frequency model in ``constriction``, on the same integers."""

import numpy as np
import pytest
from trim_networks import linear

from paretrim import trimfile
from paretrim.graph.entropy import order0_bytes

constriction = pytest.importorskip("constriction")


def range_coded_bytes(weight):
    """Length of the stream with the weight's own frequencies given for free."""
    symbols, counts = np.unique(weight, return_counts=True)
    model = constriction.stream.model.Categorical((counts / counts.sum()).astype(np.float32), perfect=False)
    coder = constriction.stream.queue.RangeEncoder()
    coder.encode(np.searchsorted(symbols, weight.ravel()).astype(np.int32), model)
    return coder.get_compressed().nbytes


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9])
def test_frequencies_alone_cost_what_an_order_0_coder_says(zeros):
    random = np.random.default_rng(3)
    weight = np.rint(random.laplace(0, 12, (400, 512))).clip(-127, 127).astype(np.int8)
    weight[random.random(weight.shape) < zeros] = 0
    coded = range_coded_bytes(weight)
    assert coded == pytest.approx(order0_bytes(weight), rel=0.001)
    found = trimfile.from_bytes(trimfile.to_bytes(linear(weight)))
    # The file's coder has to learn the frequencies that the other one is given: half a logarithm for each (Rissanen 1984).
    learning = len(np.unique(weight)) * 0.5 * np.log2(np.count_nonzero(weight)) / 8
    assert next(iter(found.layer_bytes.values())) < 1.003 * coded + learning
