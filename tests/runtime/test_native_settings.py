"""Invalid settings of ``load``: rejected by name before the file is planned, by every function that opens it."""

import numpy as np
import pytest
from random_graphs import random_graph

import paretrim.runtime
from paretrim import trimfile
from paretrim.errors import DataUnavailable, UnsupportedOperation
from paretrim.graph.storage import save
from paretrim.runtime import load, pretrained

GRAPH, IMAGES = random_graph(0, quantized=True)


@pytest.fixture(params=[".trim", ".graph"])
def path(request, tmp_path):
    found = tmp_path / f"net{request.param}"
    (trimfile.write if request.param == ".trim" else save)(GRAPH, found)
    return found


@pytest.mark.parametrize("measure", [True, False])
@pytest.mark.parametrize("threads", ["2", None, [1], (2,), {}, 2.0, True, 0, -1, np.bool_(True), np.float32(1), float("nan")])
def test_threads_of_another_type_are_named(threads, measure, path):
    with pytest.raises(UnsupportedOperation, match=r"net\.\w+': threads is .*; it must be a whole number from 1 to 1024"):
        load(path, threads=threads, measure=measure)


def test_too_many_threads_and_unknown_names_are_named(path):
    with pytest.raises(UnsupportedOperation, match=r"net\.\w+': threads is 10{40}; it must be a whole number from 1 to 1024"):
        load(path, threads=10**40)
    for wrong in (None, 3, b"plain", ["plain"]):
        with pytest.raises(UnsupportedOperation, match=r"instruction_set is .*; give a name, or '' for the best one"):
            load(path, instruction_set=wrong)


@pytest.mark.parametrize("threads", [np.int64(2), np.uint8(2), 2])
def test_whole_numbers_of_any_kind_are_taken_and_kept_alike(threads, path):
    session = load(path, threads=threads)
    assert (type(session.threads), session.threads, type(session.source.threads)) == (int, 2, int)
    kept = path.with_name(path.name + ".plan.json").read_bytes()
    load(path, threads=2)
    assert path.with_name(path.name + ".plan.json").read_bytes() == kept
    np.testing.assert_array_equal(session(IMAGES), load(path)(IMAGES))


@pytest.mark.parametrize("limit", [1, 2.5, float("inf"), 10**400])
def test_limits_are_numbers_of_any_size(limit, tmp_path):
    trimfile.write(GRAPH, tmp_path / "net.trim")
    assert load(tmp_path / "net.trim", limit=limit, measure=False).threads == 1


@pytest.mark.parametrize("name", [None, 3, [], "", "../x"])
def test_pretrained_networks_are_asked_for_by_name(name):
    with pytest.raises(DataUnavailable, match=r"no pretrained network is called .*; choose one of "):
        pretrained(name)


def test_pretrained_networks_take_settings_like_others():
    with pytest.raises(UnsupportedOperation, match="threads is '2'; it must be a whole number from 1 to 1024"):
        paretrim.runtime.pretrained("cifar10-resnet20", threads="2")
