"""Cases that run, fail, are interrupted and resumed, and files that are timed in turn."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peer_results import module, origin, result

from paretrim.errors import InvalidRecipe, MissingDependency, UnstableMachine


def test_a_script_that_fails_says_what_it_said_last(tmp_path):
    peers = module("peers")
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit('the images are gone')")
    with pytest.raises(
        peers.PeerFailed, match=r"'script.py' ended with 1, and said last: the images are gone; all it said: '.*log'"
    ):
        peers.run_command([sys.executable, script], tmp_path, tmp_path / "log")
    script.write_text("sum(range(10**6))")
    wall_s, cpu_s = peers.run_command([sys.executable, script], tmp_path, tmp_path / "log")
    assert min(wall_s, cpu_s) > 0


def test_a_case_is_judged_by_labels_that_its_script_never_sees(place):
    peers = module("peers")
    (case,) = peers.chosen("paretrim-int8")
    line = peers.run_case(case, "resnet20", 0, place)
    assert (line.correct, line.images, line.file_bytes, line.wall_s, line.cpu_s) == (3, 4, 5, 2.0, 1.0)
    assert (line.user_lines, line.script) == (case.user_lines, case.digest)
    assert line.origin.versions["paretrim"]
    work = place.work(case, "resnet20", 0)
    assert not [path for path in work.iterdir() if "label" in path.name]
    assert (work / "training.npz").resolve() == (place.root / "training.npz").resolve()  # the images a user has


def test_a_stopped_comparison_goes_on_and_a_changed_script_runs_again(place, tmp_path, monkeypatch, capsys):
    peers = module("peers")
    words = ["--folder", str(place.root), "--results", str(tmp_path / "lines"), "--networks", "resnet20", "--seeds", "1"]
    words += ["--cases", "paretrim-int8"]
    for _ in range(2):
        assert peers.main(words) == 0
    assert capsys.readouterr().out.count("paretrim-int8, resnet20, seed 0: 75.00 %, 5 bytes") == 1
    monkeypatch.setattr(peers.Case, "digest", "changed")
    assert peers.main(words) == 0
    assert [line.script for line in module("peer_lines").read(tmp_path / "lines")] == ["changed"]


def test_a_case_that_cannot_run_is_a_line_and_the_others_go_on(place, tmp_path, monkeypatch, capsys):
    peers = module("peers")

    def interpreter(name, folder):
        if name == "nncf":
            raise MissingDependency(f"no wheel in {place.root}")
        return Path(sys.executable)

    monkeypatch.setattr(peers, "interpreter", interpreter)
    words = ["--folder", str(place.root), "--results", str(tmp_path / "lines"), "--networks", "resnet20", "--seeds", "1"]
    assert peers.main([*words, "--cases", "nncf-int8,paretrim-int8"]) == 1
    missing, done = module("peer_lines").read(tmp_path / "lines")
    assert (missing.reason, missing.origin.versions, done.case) == ("no wheel in FOLDER", {}, "paretrim-int8")
    assert "nncf-int8, resnet20, seed 0: no wheel" in capsys.readouterr().out


def test_what_is_named_wrongly_is_refused(place, tmp_path, capsys):
    peers = module("peers")
    with pytest.raises(InvalidRecipe, match="--cases names 'ncnn'; known are float, paretrim-int8"):
        peers.chosen("ncnn")
    assert peers.main(["--cases", "ncnn"]) == 1
    assert "error: --cases names 'ncnn'" in capsys.readouterr().err


def test_a_relative_folder_is_that_of_the_caller_for_every_script(tmp_path, monkeypatch):
    peers = module("peers")
    monkeypatch.chdir(tmp_path)
    assert peers.parse(["--folder", "run"]).folder == tmp_path / "run"
    assert peers.parse([]).folder == tmp_path / "runs" / "peers"


def test_weights_are_asked_for_before_anything_runs(tmp_path, monkeypatch):
    peers = module("peers")
    one = SimpleNamespace(images=torch.zeros(1, 3, 2, 2, dtype=torch.uint8), labels=torch.zeros(1))
    monkeypatch.setattr(peers, "load", lambda spec: SimpleNamespace(test=one, train=one))
    given = peers.parse(["--folder", str(tmp_path)])
    with pytest.raises(InvalidRecipe, match="--weights is not given; name a folder that holds cifar10_resnet20"):
        peers.prepare(["resnet20"], [0], given, peers.Place(tmp_path))


def test_test_images_that_are_there_are_left_alone_when_another_network_is_handed_over(place, monkeypatch):
    """Another call may be reading them."""
    peers = module("peers")
    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    one = SimpleNamespace(images=images, labels=torch.zeros(4))
    monkeypatch.setattr(peers, "load", lambda spec: SimpleNamespace(test=one, train=one))
    before = (place.root / peers.TEST_LABELS).read_bytes()
    with pytest.raises(InvalidRecipe, match="--weights is not given"):
        peers.prepare(["resnet56"], [0], peers.parse([]), place)
    assert (place.root / peers.TEST_LABELS).read_bytes() == before
    assert not (place.root / peers.TEST_IMAGES).exists()


def test_only_the_files_of_the_results_are_timed(place, tmp_path):
    peers, lines = module("peers"), module("peer_lines")
    lines.append(tmp_path / "lines", result("paretrim-int8"))
    given = peers.parse(["--folder", str(place.root), "--results", str(tmp_path / "lines"), "--networks", "resnet20"])
    with pytest.raises(InvalidRecipe, match=r"int8.trim' is not the file of the results; name the --folder"):
        peers.time_all(given, peers.chosen("paretrim-int8"))


def test_files_are_timed_in_turn_and_each_gets_its_median(monkeypatch):
    timing = module("peer_latency")
    monkeypatch.setattr(timing, "unquiet", lambda load, threads: [])
    monkeypatch.setattr(timing, "disturbed", lambda before, after, seconds: ["a fan"])
    for name, value in (("PROCESSES", 2), ("ROUNDS", 3), ("WARM_UP", 1), ("LEAD", 2)):
        monkeypatch.setattr(timing, name, value)
    # Only every third call after the first is as fast as it can be: the last of each turn.
    program = "import sys\nfor n, line in enumerate(sys.stdin): print({} if n and n % 3 == 0 else 10**9, flush=True)"
    cases = {case.name: case for case in module("peer_cases").CASES}
    files = [
        (cases[name], result(name), [sys.executable, "-S", "-c", program.format(value)])
        for name, value in (("nncf-int8", 2_000_000), ("paretrim-int8", 500_000))
    ]
    lines = list(timing.time_files(files, lambda case: origin()))
    assert [(line.case, line.p50_ms, line.p50_ms_low, line.p50_ms_high) for line in lines] == [
        ("nncf-int8", 2.0, 2.0, 2.0),
        ("paretrim-int8", 0.5, 0.5, 0.5),
    ]
    assert lines[0].noise == ("processes 1: a fan", "processes 2: a fan")
    with pytest.raises(UnstableMachine, match="ended instead of computing an image; run this command to see why"):
        list(timing.time_files([(cases["nncf-int8"], result(), [sys.executable, "-S", "-c", ""])], lambda case: origin()))


def test_nothing_is_timed_on_a_busy_machine(monkeypatch):
    timing = module("peer_latency")
    monkeypatch.setattr(timing, "unquiet", lambda load, threads: ["5 tasks want to run"])
    with pytest.raises(UnstableMachine, match="nothing is timed now: 5 tasks want to run; wait until the machine is quiet"):
        list(timing.time_files([], lambda case: origin()))
