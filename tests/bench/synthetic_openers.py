"""Openers of known behaviour, imported by worker processes. The text of a deployed file says what its calls do."""

import gc
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np

from paretrim.errors import CorruptFile, MissingDependency

CHANGED = []


def logits(images):
    """Ten logits whose largest is the class the first pixel names."""
    return np.eye(10, dtype=np.float32)[images[:, 0, 0, 0].astype(int) % 10]


class Spinning:
    """Helper threads that burn CPU time while their caller sleeps, and a sleep that lasts until they have.

    The CPU time that they use does not depend on how busy the machine is.
    """

    def __init__(self):
        self.threads = []
        self._sleep = time.sleep

    def begin(self):
        self.threads.append(threading.Thread(target=spin, args=(0.005,)))

    def sleep(self, seconds):
        for thread in self.threads:
            thread.start()
            thread.join()
        self.threads.clear()
        self._sleep(seconds)


def spin(seconds):
    """Burn CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def busy(path, *, runtime, threads):
    """Busy-wait as many microseconds as the file says."""
    nanoseconds = int(float(Path(path).read_text()) * 1000)

    def call(images):
        end = time.perf_counter_ns() + nanoseconds
        result = logits(images)
        while time.perf_counter_ns() < end:
            pass
        return result

    return call


def behave(path, *, runtime, threads):
    """Do what the first word of the file says, at once or after a number of calls."""
    path = Path(path)
    text = path.read_text()
    what, *words = text.split()
    if text == "fail to open":
        raise FileNotFoundError("no such network")
    if what == "package":
        raise MissingDependency("install openvino")
    if what == "corrupt":
        raise CorruptFile("the checksum is wrong")
    if what == "write":
        path.write_text("write once more")
    if what == "cores":
        note(words[0], "opening", threads)
    turn = 0
    if what == "differ":
        with Path(words[0]).open("a") as file:
            file.write("x")
        # The deployment and its copy are opened in every process, so openings 1 and 2 are the first process's.
        turn = (Path(words[0]).stat().st_size - 1) // 2
    calls = 0
    spinning = Spinning()
    if what == "spin":
        time.sleep = spinning.sleep

    def call(images):
        nonlocal calls
        calls += 1
        if calls == 10:
            misbehave(what)
        if what == "cores" and calls == 3:
            note(words[0], "third call", threads)
        if what == "hang":
            time.sleep(600)
        if what == "raise":
            raise RuntimeError("kernel exploded")
        if what == "spin":
            spinning.begin()
        return distort(what, logits(images), calls, turn)

    return call


def misbehave(what):
    if what == "die":
        os._exit(3)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "complain":
        os.write(2, b"illegal instruction\n")
        os._exit(132)
    if what == "talk":
        os.write(1, b"engines like to talk\n")


def distort(what, result, calls, turn):
    # The collector rests only while samples are taken; from then on this deployment gives other classes.
    if what == "change" and (not gc.isenabled() or CHANGED):
        CHANGED.append(calls)
        return np.roll(result, 1, axis=1)
    if what == "differ":
        return np.roll(result, turn, axis=1)
    if what == "shape":
        return result[0]
    if what == "nan":
        return np.full_like(result, np.nan)
    return result


def note(trace, when, threads):
    said = {"when": when, "threads": threads, "cores": sorted(os.sched_getaffinity(0)), "torch": "torch" in sys.modules}
    with Path(trace).open("a") as file:
        file.write(json.dumps(said) + "\n")
