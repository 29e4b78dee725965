"""Forks and exits while other threads are inside the runtime: the child's calls return, and the process exits cleanly."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from random_graphs import random_graph

import paretrim.runtime
from paretrim import trimfile
from paretrim.runtime.compiled import native

GRAPH, IMAGES = random_graph(11, quantized=True)
CONTENT = trimfile.to_bytes(GRAPH)
FORKS = 60
HANGS = 200
"""Seconds after which a child that waits for ever is ended."""


def exit_status(work):
    """Exit status of a forked child that returns whether ``work()`` is true."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(HANGS)
            status = 0 if work() else 7
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def busy(work, *, callers):
    """Threads that do ``work()`` again and again."""
    stop = threading.Event()

    def again():
        while not stop.is_set():
            work()

    threads = [threading.Thread(target=again) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def tiny():
    """A network whose calls are so short that their beginning and end are most of them."""
    from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType

    nodes = (
        Node("q", "quantize", (INPUT,), ValueType((1, 1, 1), "uint8", 0.5, 3)),
        Node("flat", "flatten", ("q",), ValueType((1,), "uint8", 0.5, 3)),
        Node("real", "dequantize", ("flat",), ValueType((1,))),
    )
    return Graph(InputSpec((1, 1, 1)), nodes, ("real",))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_child_forked_while_others_are_in_a_call_computes(threads):
    session = paretrim.runtime.plan(tiny(), threads=threads, measure=False)
    image = np.ones((1, 1, 1, 1), np.float32)
    expected = session(image)
    with busy(lambda: session.network.run(image), callers=3):
        statuses = [exit_status(lambda: bool((session(image) == expected).all())) for _ in range(FORKS)]
    assert statuses == [0] * FORKS


def test_a_child_forked_while_others_load_loads_and_drops_sessions():
    kept = [paretrim.runtime.plan(GRAPH, threads=2, measure=False) for _ in range(3)]

    def load():
        return native.plan_trim(CONTENT, threads=2, instruction_set="", measure=True, choices="")

    def work():
        kept.clear()
        return bool(np.isfinite(load().run(IMAGES)).all())

    with busy(load, callers=2):
        statuses = [exit_status(work) for _ in range(12)]
    assert statuses == [0] * 12
    assert np.isfinite(kept[0](IMAGES)).all()


def _top(image):
    return int(SESSION(image[None]).argmax())


SESSION = paretrim.runtime.plan(GRAPH, threads=2, measure=False)


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_worker_processes_use_the_session_of_their_module(way):
    expected = SESSION(IMAGES).argmax(axis=1).tolist()
    with busy(lambda: SESSION(IMAGES), callers=2), multiprocessing.get_context(way).Pool(2) as workers:
        found = workers.map_async(_top, list(IMAGES)).get(timeout=300)
    assert found == expected


def _logits(session, images):
    return session.threads, session(images)


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_worker_processes_are_given_a_session(way, tmp_path):
    (tmp_path / "model.trim").write_bytes(CONTENT)
    session = paretrim.runtime.load(tmp_path / "model.trim", threads=2, measure=False, remember=False)
    with multiprocessing.get_context(way).Pool(1) as workers:
        threads, found = workers.apply_async(_logits, (session, IMAGES)).get(timeout=300)
    assert threads == 2
    assert found.tobytes() == session(IMAGES).tobytes()


PROGRAM = """
import ctypes, os, sys, threading, time
import numpy as np
sys.path[:0] = {path!r}
import paretrim.runtime
from paretrim.runtime.compiled import native
from random_graphs import random_graph

graph, images = random_graph(11, quantized=True)
content = bytes.fromhex({content!r})

def sessions(count, threads):
    return [paretrim.runtime.plan(graph, threads=threads, measure=False) for _ in range(count)]

def calls(session):
    return lambda: session(images)

def loads(threads):
    return lambda: native.plan_trim(content, threads=threads, instruction_set="", measure=True, choices="")

def reads():
    native.read_trim(content, threads=2)

def c_calls():
    library = ctypes.CDLL({library!r})
    library.paretrim_load_bytes.restype = ctypes.c_void_p
    library.paretrim_load_bytes.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int32]
    library.paretrim_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    network = library.paretrim_load_bytes(content, len(content), 2)
    logits = np.zeros((len(images), 5), np.float32)
    return lambda: library.paretrim_run(network, images.ctypes.data, len(images), logits.ctypes.data)

def start(*works):
    begun = threading.Barrier(len(works) + 1)
    def again(work):
        work()
        begun.wait()
        while True:
            work()
    for work in works:
        threading.Thread(target=again, args=(work,), daemon=True).start()
    begun.wait()
    time.sleep(0.05)

{end}
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("start(calls(sessions(1, 1)[0]))", 0),
        ("start(calls(sessions(1, 2)[0]))", 0),
        ("start(*map(calls, sessions(2, 1) + sessions(2, 2)))", 0),
        ("start(loads(1), loads(2))", 0),
        ("start(reads, reads)", 0),
        ("session = sessions(1, 1)[0]; start(lambda: session.profile(images[0], calls=20))", 0),
        ("start(calls(sessions(1, 2)[0])); sys.exit(3)", 3),
        ("start(calls(sessions(1, 2)[0])); os._exit(4)", 4),
        ("start(c_calls(), c_calls())", 0),
    ],
)
def test_a_process_ends_quietly_while_threads_are_in_the_runtime(end, status):
    library = str(Path(native.__file__).parent / "libparetrim.so")
    program = PROGRAM.format(path=sys.path, content=CONTENT.hex(), library=library, end=end)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
