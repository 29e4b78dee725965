import pytest
from chain import (
    assert_frozen_float_is_the_network,
    assert_integers_are_the_fake_quantized_network,
    assert_the_file_runs_in_int8,
    captured,
)
from hand_networks import NETWORKS, SIZE, made


@pytest.mark.parametrize("name", NETWORKS)
def test_hand_written_networks_from_module_to_file(name, tmp_path):
    network, images, expected = captured(made(name), (3, SIZE, SIZE))
    assert_frozen_float_is_the_network(network, images, expected)
    graph = assert_integers_are_the_fake_quantized_network(network, images)
    assert_the_file_runs_in_int8(graph, images, tmp_path)
