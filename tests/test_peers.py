"""benchmarks/peers.py without installing anything: what is handed over, stored, timed and said; its page is not stale."""

import dataclasses
import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from paretrim.errors import CorruptFile, InvalidRecipe, MissingDependency, UnstableMachine
from paretrim.models.resnet_cifar import resnet20

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (ROOT / "benchmarks", ROOT / "benchmarks" / "peers")


@pytest.fixture(autouse=True)
def _benchmarks_on_the_path(monkeypatch):
    """As when the command or a peer's script runs; their modules are forgotten afterwards."""
    for folder in FOLDERS:
        monkeypatch.syspath_prepend(str(folder))
    yield
    for path in (path for folder in FOLDERS for path in folder.glob("*.py")):
        sys.modules.pop(path.stem, None)


def module(name):
    return importlib.import_module(name)


def origin(**given):
    said = {"cpu": "a CPU", "cores": 2, "system": "Linux", "versions": {"numpy": "2"}, "commit": "0123abc", "created": "today"}
    return module("peer_lines").Origin(**said | {"load": 3.0} | given)


def result(case="nncf-int8", seed=0, **given):
    said = {"case": case, "network": "resnet20", "seed": seed, "correct": 9150, "images": 10000, "file_bytes": 400_000}
    said |= {"file_digest": f"{case}-{seed}", "wall_s": 9.0, "cpu_s": 8.0, "user_lines": 6, "script": "abc", "origin": origin()}
    return module("peer_lines").ResultLine(**said | given)


def absent(case="torchao-int8", **given):
    said = {"case": case, "network": "resnet20", "seed": 0, "reason": "no such version", "script": "abc", "origin": origin()}
    return module("peer_lines").AbsentLine(**said | given)


def latency(case="nncf-int8", p50_ms=0.2, **given):
    said = {"case": case, "network": "resnet20", "seed": 0, "file_digest": f"{case}-0", "threads": 1, "p50_ms": p50_ms}
    said |= {"p50_ms_low": p50_ms - 0.01, "p50_ms_high": p50_ms + 0.01, "processes": 5, "rounds": 300, "noise": ("a fan",)}
    return module("peer_lines").LatencyLine(**said | {"origin": origin()} | given)


OURS = {"file_bytes": 200_000, "cpu_s": 20.0, "user_lines": 8}


def both_sides():
    return [
        result("float", correct=9173, file_bytes=1_080_000, user_lines=0),
        *(result("paretrim-int8", seed, correct=9160 + seed, **OURS) for seed in range(3)),
        *(result("nncf-int8", seed, correct=9150 + seed) for seed in range(3)),
    ]


# The scripts


def test_every_case_is_code_that_compiles_for_a_runtime_that_is_served_in_an_environment_with_pins():
    cases = module("peer_cases")
    assert len({case.name for case in cases.CASES}) == len(cases.CASES)
    for case in cases.CASES:
        if case.script:
            compile((cases.SCRIPTS / case.script).read_text(), case.script, "exec")
            assert case.user_lines >= 5
        assert case.runtime in module("serve").RUNTIMES
        assert case.environment in {cases.HERE, *cases.ENVIRONMENTS}
    assert all("==" in pin for pins in cases.ENVIRONMENTS.values() for pin in pins)


def test_lines_of_code_are_those_that_do_something():
    source = (
        '"""What it is.\n\nAt length."""\n\nimport a  # needed\n\n# why\ndef f():\n    "text"\n    return a(\n        1,\n    )\n'
    )
    assert module("peer_cases").code_lines(source) == 5  # import, def, and three of the call
    assert module("peer_cases").code_lines('x = """two\nlines"""\n') == 2


def test_the_network_of_the_scripts_is_the_one_that_is_handed_over(tmp_path):
    torch.manual_seed(0)
    network = resnet20(classes=10).eval()
    images = torch.randn(2, 3, 32, 32)
    safetensors = importlib.import_module("safetensors.torch")
    safetensors.save_file(network.state_dict(), tmp_path / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(module("network").trained(str(tmp_path / "model.safetensors"))(images), network(images))


def test_the_training_of_the_scripts_augments_and_learns(tmp_path, monkeypatch):
    training = module("training")
    images = np.arange(256 * 3 * 32 * 32, dtype=np.uint64).reshape(256, 3, 32, 32) % 251
    np.savez(tmp_path / "training.npz", images=images.astype(np.uint8), labels=np.arange(256) % 3)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    given = training.Training()
    image, label = given[4]
    windows = given.images[4].unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    assert any(torch.equal(image, one) or torch.equal(image, one.flip(2)) for one in windows)
    assert (label, len(training.batches())) == (1, 2)
    network, teacher = nn.Sequential(nn.Flatten(), nn.Linear(3072, 3)), nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))
    before = (network[1].weight.clone(), teacher[1].weight.clone())
    training.train(network, 1, teacher)
    assert not torch.equal(network[1].weight, before[0])
    assert torch.equal(teacher[1].weight, before[1])


# Handing over


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.linear = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3)

    def forward(self, x):
        return self.linear(self.bn(self.conv(x)).relu().mean((2, 3)))


def test_a_peer_is_given_the_network_and_its_images_as_files(tmp_path):
    torch.manual_seed(0)
    network, images, labels = Tiny(), torch.randn(4, 1, 5, 5), torch.tensor([0, 1, 2, 1])
    network.bn.running_mean += 1  # something that only evaluation uses
    module("peer_files").hand_over(network, images, labels, tmp_path)
    given = np.load(tmp_path / "calibration.npz")
    assert (given["images"].tolist(), given["labels"].tolist()) == (images.tolist(), labels.tolist())
    weights = importlib.import_module("safetensors.torch").load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())
    module("serve").main("onnxruntime", str(tmp_path / "model.onnx"), "1", *save(tmp_path, images.numpy()))
    with torch.no_grad():
        np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), network.eval()(images).numpy(), atol=1e-5)
    assert onnxruntime.InferenceSession(tmp_path / "model.onnx").get_inputs()[0].shape == [1, 1, 5, 5]


def save(folder, images):
    np.save(folder / "images.npy", images)
    return str(folder / "images.npy"), str(folder / "logits.npy")


def test_other_seeds_draw_other_images_and_none_twice():
    drawn = module("peer_files").drawn
    assert len(set(drawn(5000, 0).tolist())) == 512
    assert torch.equal(drawn(5000, 1), drawn(5000, 1))
    assert not torch.equal(drawn(5000, 0), drawn(5000, 1))


def test_images_are_normalized_by_channel():
    images = SimpleNamespace(images=torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1))
    assert module("peer_files").normalized(images, (0.5, 0.25), (0.5, 0.5)).flatten().tolist() == [-1.0, 1.5]


def test_the_server_says_how_long_an_image_took(tmp_path, monkeypatch, capsys):
    serve = module("serve")
    seen = []
    monkeypatch.setitem(serve.RUNTIMES, "fake", lambda path, threads: lambda image: seen.append((path, threads, image.item())))
    monkeypatch.setattr("sys.stdin", ["2\n", "0\n"])
    images, _ = save(tmp_path, np.array([5, 6, 7], np.float32).reshape(3, 1, 1, 1))
    serve.main("fake", "file", "1", images)
    assert seen == [("file", 1, 7.0), ("file", 1, 5.0)]
    assert all(int(word) >= 0 for word in capsys.readouterr().out.split())


# Environments


def test_a_peer_that_cannot_be_installed_is_named_with_the_reason_and_leaves_nothing(tmp_path, monkeypatch):
    environments = module("peer_environments")

    def run(command, stdout, **_):
        stdout.write("looking\nERROR: No matching distribution found for torchao==0.18.0\n")
        (tmp_path / "torchao").mkdir(exist_ok=True)
        return SimpleNamespace(returncode=int("pip" in command))

    monkeypatch.setattr(environments.subprocess, "run", run)
    with pytest.raises(
        MissingDependency, match=r"'torchao' \(torchao==0.18.0, .*No matching distribution.*torchao.log'; fix the"
    ):
        environments.interpreter("torchao", tmp_path)
    assert not (tmp_path / "torchao").exists()


def test_an_environment_with_the_same_pins_is_kept_and_with_others_is_made_anew(tmp_path, monkeypatch):
    environments = module("peer_environments")
    asked = []

    def run(command, **_):
        asked.append(command[1:3])
        (tmp_path / "nncf").mkdir(exist_ok=True)
        return SimpleNamespace(returncode=0, stdout='[{"name": "nncf", "version": "3.4.0"}, {"name": "rich", "version": "1"}]')

    monkeypatch.setattr(environments.subprocess, "run", run)
    python = environments.interpreter("nncf", tmp_path)
    assert python == tmp_path / "nncf" / "bin" / "python"
    assert asked == [["-m", "venv"], ["-m", "pip"], ["-m", "pip"]]  # made, installed, listed
    assert environments.versions_of("nncf", tmp_path) == {"nncf": "3.4.0"}
    assert environments.interpreter("nncf", tmp_path) == python
    assert len(asked) == 3
    monkeypatch.setattr(environments, "ENVIRONMENTS", {"nncf": ("nncf==3.5.0",)})
    environments.interpreter("nncf", tmp_path)
    assert len(asked) == 6


def test_processes_of_peers_do_not_see_the_python_of_this_one(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    given = module("peer_environments").variables(1)
    assert "PYTHONPATH" not in given
    assert given["OMP_NUM_THREADS"] == "1"


# Running


def test_a_script_that_fails_says_what_it_said_last(tmp_path):
    peers = module("peers")
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit('the images are gone')")
    with pytest.raises(
        peers.PeerFailed, match=r"'script.py' ended with 1, and said last: the images are gone; all it said: '.*log'"
    ):
        peers.carried_out([sys.executable, script], tmp_path, tmp_path / "log")
    script.write_text("sum(range(10**6))")
    wall_s, cpu_s = peers.carried_out([sys.executable, script], tmp_path, tmp_path / "log")
    assert min(wall_s, cpu_s) > 0


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder where everything is handed over, and commands that pretend to run."""
    peers = module("peers")
    made = peers.Place(tmp_path / "run")
    made.given("resnet20", 0).mkdir(parents=True)
    (made.given("resnet20", 0) / "model.onnx").write_bytes(b"float")
    np.save(made.root / peers.TEST_LABELS, np.array([0, 1, 2, 2]))
    np.savez(made.root / peers.TRAINING, images=np.zeros((1, 3, 2, 2), np.uint8), labels=np.zeros(1, np.int64))

    def carried_out(command, folder, log):
        if "serve.py" in str(command[1]):
            np.save(folder / "logits.npy", np.eye(3)[[0, 1, 2, 0]])
        else:
            (folder / "int8.trim").write_bytes(b"12345")
        return 2.0, 1.0

    monkeypatch.setattr(peers, "carried_out", carried_out)
    return made


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


# Latency


def test_only_the_files_of_the_results_are_timed(place, tmp_path):
    peers, lines = module("peers"), module("peer_lines")
    lines.append(tmp_path / "lines", result("paretrim-int8"))
    given = peers.parse(["--folder", str(place.root), "--results", str(tmp_path / "lines"), "--networks", "resnet20"])
    with pytest.raises(InvalidRecipe, match=r"int8.trim' is not the file of the results; name the --folder"):
        peers.time_all(given, peers.chosen("paretrim-int8"))


def test_arms_are_timed_in_turn_and_each_gets_its_median(monkeypatch):
    timing = module("peer_latency")
    monkeypatch.setattr(timing, "unquiet", lambda load, threads: [])
    monkeypatch.setattr(timing, "disturbed", lambda before, after, seconds: ["a fan"])
    for name, value in (("PROCESSES", 2), ("ROUNDS", 3), ("WARM_UP", 1), ("LEAD", 2)):
        monkeypatch.setattr(timing, name, value)
    # Only every third call after the first is as fast as it can be: the last of each turn.
    program = "import sys\nfor n, line in enumerate(sys.stdin): print({} if n and n % 3 == 0 else 10**9, flush=True)"
    cases = {case.name: case for case in module("peer_cases").CASES}
    arms = [
        (cases[name], result(name), [sys.executable, "-S", "-c", program.format(value)])
        for name, value in (("nncf-int8", 2_000_000), ("paretrim-int8", 500_000))
    ]
    lines = list(timing.time_files(arms, lambda case: origin()))
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


# Lines


def test_lines_are_read_as_they_were_and_later_ones_replace_earlier_ones(tmp_path):
    lines, path = module("peer_lines"), tmp_path / "peers.jsonl"
    again = result(correct=9200)
    for line in (result(), absent(), latency(), again, result("torchao-int8")):
        lines.append(path, line)
    assert lines.read(path) == [again, result("torchao-int8"), latency()]  # an absence was replaced too
    with path.open("a") as file:
        file.write('{"kind": "res')  # a crash while writing
    assert len(lines.read(path)) == 3
    lines.append(path, result("onnxruntime-int8"))
    assert len(lines.read(path)) == 4
    assert lines.read(tmp_path / "absent") == []


@pytest.mark.parametrize("text", ["no json", "[1]", '{"kind": "guess"}', '{"kind": "absent"}'])
def test_a_broken_line_is_named(tmp_path, text):
    (tmp_path / "lines").write_text(f"{text}\n")
    with pytest.raises(CorruptFile, match=r"lines', line 1 is no line of peers \(.*kinds are result, absent, latency; restore"):
        module("peer_lines").read(tmp_path / "lines")


# The page


def test_the_page_is_what_its_lines_make():
    page = module("peer_page")
    assert page.PAGE.read_text(encoding="utf-8") == page.page_of(module("peer_lines").read(page.RESULTS))


def test_a_row_says_what_was_measured_and_that_nothing_was_timed():
    made = module("peer_page").page_of(both_sides())
    assert "As trained: 91.73 % [91.17, 92.25] by its test images, 1,080,000 bytes as ONNX, latency not timed yet." in made
    assert "| **Paretrim** | 91.61 [91.59, 91.63] | +0.12 | 200,000 | 20.0 | busy | 8 | paretrim | not timed yet |" in made
    assert made.index("**Paretrim**") < made.index("| NNCF |")  # the more accurate one first
    assert "- latency, ms: not timed yet." in made
    assert "- nncf: numpy 2.\n" in made
    assert "- a CPU, 2 cores.\n- Commits: 0123abc.\n" in made


def test_the_page_says_where_a_peer_wins():
    made = module("peer_page").page_of([*both_sides(), latency(), latency("paretrim-int8", 0.1)])
    assert "- accuracy: Paretrim wins, 91.51 % (NNCF) against 91.61 % (Paretrim), difference -0.10 [-0.10, -0.10]." in made
    assert "- bytes: Paretrim wins, 400,000 (NNCF) against 200,000 (Paretrim)." in made
    assert "- CPU seconds: **a peer wins**, 8.0 (NNCF) against 20.0 (Paretrim)." in made
    assert "- lines of code: **a peer wins**, 6 (NNCF) against 8 (Paretrim)." in made
    assert "- latency, ms: Paretrim wins, 0.200 (NNCF) against 0.100 (Paretrim)." in made
    assert "| NNCF | 91.51 [91.49, 91.53] | +0.22 | 400,000 | 8.0 | busy | 6 | openvino | 0.200 [0.190, 0.210] |" in made
    assert "- Not quiet: a fan." in made


def test_a_quick_case_of_ours_that_is_less_accurate_does_not_win():
    quick = result("paretrim-int8-bias", correct=6000, file_bytes=1, cpu_s=0.1, user_lines=1)
    made = module("peer_page").page_of([*both_sides(), quick])
    assert "- CPU seconds: **a peer wins**, 8.0 (NNCF) against 20.0 (Paretrim)." in made
    assert "- lines of code: **a peer wins**, 6 (NNCF) against 8 (Paretrim)." in made


def test_a_difference_that_may_be_chance_is_none():
    lines = [result("paretrim-int8", seed, correct=9150 + 30 * (seed == 1), **OURS) for seed in range(3)]
    made = module("peer_page").page_of([*lines, *(result(seed=seed, correct=9162) for seed in range(3))])
    assert "- accuracy: no difference shown, 91.62 % (NNCF) against 91.60 % (Paretrim), difference +0.02 [" in made
    better = module("peer_page").page_of([*lines, *(result(seed=seed, correct=9300) for seed in range(3))])
    assert "- accuracy: **a peer wins**, 93.00 % (NNCF)" in better
    assert "one draw shows no difference" in module("peer_page").page_of([lines[0], result()])
    assert "Only one side has run" in module("peer_page").page_of(lines)
    equal = module("peer_page").page_of([*lines, *(result(seed=seed, **OURS) for seed in range(3))])
    assert "- bytes: equal, 200,000 (NNCF) against 200,000 (Paretrim)." in equal


def test_what_did_not_run_stands_with_its_reason_and_a_time_belongs_to_its_file():
    page = module("peer_page")
    assert "Not run here:\n\n- torchao PT2E: no such version\n" in page.page_of([*both_sides(), absent()])
    old = dataclasses.replace(latency(), file_digest="another file")
    assert "0.200" not in page.page_of([*both_sides(), old])
    assert page.NOTHING in page.page_of([])


def test_wall_time_counts_on_an_idle_machine_only():
    quiet = [dataclasses.replace(line, origin=origin(load=0.1)) for line in both_sides()]
    assert "| 8.0 | 9.0 | 6 | openvino |" in module("peer_page").page_of(quiet)
