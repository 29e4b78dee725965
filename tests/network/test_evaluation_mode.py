"""Looking at a network leaves its mode as it was."""

import pytest
from torch import nn

from paretrim.network.evaluation_mode import evaluating


@pytest.mark.parametrize("training", [True, False])
def test_networks_are_evaluated_inside_and_have_their_mode_afterwards(training):
    one, other = nn.Sequential(nn.Dropout()).train(training), nn.Sequential(nn.BatchNorm2d(2)).train(not training)
    with evaluating(one, other):
        assert not any(module.training for network in (one, other) for module in network.modules())
    assert [module.training for module in (*one.modules(), *other.modules())] == [training] * 2 + [not training] * 2


def test_an_error_inside_does_not_leave_the_network_in_evaluation_mode():
    network = nn.Sequential(nn.Dropout()).train()
    with pytest.raises(ZeroDivisionError), evaluating(network):
        raise ZeroDivisionError
    assert network[0].training
