import re
from pathlib import Path

import pytest

from paretrim.errors import UnsupportedOperation
from paretrim.results.run_folder import delivered_by
from paretrim.run import judge

OWN = ("--model", "cli_tiny_network:make", "--data", "digits", "--dense-epochs", "6", "--epochs", "2", "--effort", "none")


@pytest.fixture(scope="session")
def shelf(desk):
    """One folder for all tests: a command reuses what an earlier one trained."""
    return desk / "compressed"


def test_a_target_that_is_met_ends_the_climb(at_desk, shelf, command_json):
    status, found = command_json("compress", *OWN, "--folder", shelf, "--max-bytes", "1000000")
    assert status == 0
    assert found["missed"] == []
    assert [one["candidate"] for one in found["tried"]] == ["INT8", "INT8 trained"]
    assert [outcome["label"] for outcome in found["outcomes"]] == ["dense", "INT8", "INT8 trained"]
    best = max(found["tried"], key=lambda one: one["validation_accuracy"])
    assert found["best"]["candidate"] == best["candidate"]
    assert Path(found["best"]["file"]) == shelf / "best.trim"
    assert (shelf / "best.trim").stat().st_size == best["trim_bytes"]
    (same,) = (one for one in found["outcomes"] if one["label"] == best["candidate"])
    assert (same["trim_bytes"], same["file_bytes"]) == (best["trim_bytes"], Path(found["best"]["onnx"]).stat().st_size)


def test_a_candidate_at_chance_is_no_success(at_desk, command, tmp_path):
    own = ("--model", "cli_tiny_network:make", "--data", "digits", "--dense-epochs", "1", "--dense-learning-rate", "1e-9")
    status, out, _ = command(
        "compress", *own, "--folder", tmp_path / "run", "--epochs", "0", "--effort", "none", "--max-bytes", "1000000"
    )
    assert status == 3
    assert "validation images is not shown to be better than guessing among 10 classes; allow more bytes" in out
    assert "all targets are met" not in out


def test_a_target_that_is_missed_says_by_how_much(at_desk, shelf, command):
    status, out, err = command("compress", *OWN, "--folder", shelf, "--max-bytes", "10")
    size = (shelf / "best.trim").stat().st_size
    assert status == 3
    assert f"target missed: the .trim file has {size:,} bytes, {size - 10:,} more than --max-bytes 10\n" in out
    assert size == min(one.trim_bytes for one in delivered_by(shelf))
    assert "candidate: 90% of prunable zero, INT8\n" in err  # they make the file smaller


def test_without_targets_the_whole_ladder_is_reported(at_desk, shelf, command):
    status, out, _ = command("compress", *OWN, "--folder", shelf)
    assert status == 0
    assert out.count("of channels removed, INT8") >= 3
    assert "90% of prunable zero, INT8" in out
    assert "\ntargets: none were given\n" in out
    assert "\nwhy: " in out
    assert "all targets are met" not in out


def test_a_drop_that_the_images_cannot_show_is_not_said_to_be_met(at_desk, shelf, command):
    status, out, err = command("compress", *OWN, "--folder", shelf, "--max-drop", "0.5")
    assert status == 3
    assert "validation images cannot show that accuracy drops by at most 0.5 points: it takes 765 and more" in err
    assert "\ntargets: accuracy drops by at most 0.5 points (--max-drop)\n" in out
    last = out.splitlines()[-1]
    assert last.startswith(("target not shown to be met: accuracy ", "target missed: accuracy drops by "))
    page = (shelf / "report.html").read_text()
    assert last.split(": ", 1)[1] in page
    assert "all targets are met" not in (out + page).lower()


def test_only_the_candidates_that_are_named_are_tried(at_desk, shelf, command_json):
    for options, names in (
        (("--int8", "--epochs", "10"), ["INT8"]),  # the default, so that nothing is given without effect
        (("--candidates", "int8-trained,int8"), ["INT8", "INT8 trained"]),
    ):
        status, found = command_json("compress", *OWN, "--folder", shelf, *options)
        assert status == 0
        assert [one["candidate"] for one in found["tried"]] == names


def test_an_epoch_can_be_shortened(at_desk, command_json, tmp_path):
    _, found = command_json(
        "plan", *OWN[:4], "--epochs", "1", "--train-images", "200", "--batch-size", "100", "--candidates", "zeros"
    )
    trained = [stage for stage in found["stages"] if stage["epochs"]]
    assert trained
    assert {stage["steps"] for stage in trained} == {2}


def test_an_epoch_of_more_images_than_there_are(at_desk, command):
    status, _, err = command("plan", *OWN[:4], "--train-images", "100000")
    assert status == 1
    assert "100000 images were asked for, allowed are 1 to 1294, the size of the training set" in err


def test_a_larger_share_of_the_images_validates(at_desk, command_json, tmp_path):
    """Validation uses the first 250 images, or all if there are fewer."""
    _, few = command_json("plan", *OWN[:4], "--epochs", "0", "--folder", tmp_path / "run")
    _, more = command_json("plan", *OWN[:4], "--epochs", "0", "--folder", tmp_path / "run", "--validation", "0.15")
    assert (few["images"], more["images"]) == (143, 216)


def test_a_drop_that_is_shown_is_met_and_the_page_names_the_choice(at_desk, shelf, command, command_json):
    status, out, _ = command("compress", *OWN, "--folder", shelf, "--max-drop", "20")
    assert status == 0
    assert out.splitlines()[-1] == "all targets are met"
    best = re.search(r"^best: (.*?) \(validation accuracy", out, re.MULTILINE)[1]
    for made_again in (False, True):
        if made_again:
            command("report", shelf)
        page = (shelf / "report.html").read_text()
        assert f"<dt>chosen</dt><dd>{best} (best.trim)</dd>" in page
        assert "<dt>targets</dt><dd>accuracy drops by at most 20 points (--max-drop)</dd>" in page
        assert re.findall(r"<div><dt>(.*?)</dt>", page) == ["Chosen"]
        assert re.findall(r'<span class="who">(.*?)</span>', page) == [best]
    _, found = command_json("compress", *OWN, "--folder", shelf, "--max-drop", "20")
    assert (found["best"]["candidate"], found["missed"], found["not_shown"], found["contradicted"]) == (best, [], [], [])
    assert all(one["validation_drop"]["low"] <= one["validation_drop"]["high"] for one in found["tried"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "resnet20"], "network 'resnet20' is not trained; give its --weights FILE, or --dense-epochs N"),
        (["--max-latency-ms", "1", "--effort", "none"], "--max-latency-ms needs latency to be measured"),
        (["--max-drop", "101"], "--max-drop is 101 points; it must be from 0 to 100"),
        (["--max-latency-ms", "0"], "--max-latency-ms is 0; it must be above 0"),
        (["--max-bytes", "0"], "--max-bytes is 0; it must be 1 or more"),
        (["--epochs", "-1"], "--epochs is -1; it must be 0 or more"),
        (["--batch-size", "0"], "--batch-size is 0; it must be above 0"),
        (["--learning-rate", "-0.1"], "--learning-rate is -0.1; it must be above 0"),
        (["--candidates", "int4"], "--candidates names 'int4'; choose from int8, int8-trained, zeros, blocks, channels"),
        (["--validation", "1"], "validation is 1.0; it must lie between 0 and 1, without the ends"),
        (["--learning-rate", "nan"], "--learning-rate is nan; it must be above 0"),
        (["--learning-rate", "1e308"], "compress.learning_rate is 1e+308: input should be less than or equal to"),
        (["--batch-size", str(10**30)], "compress.batch_size is 1000000000000000000000000000000: input should be less"),
        (["--dense-epochs", "2", "--dense-learning-rate", "inf"], "compress.dense.learning_rate is inf: input should be"),
        (["--epochs", str(10**30)], "--epochs is 1000000000000000000000000000000; it must be 0 or more, and at most 1000000000"),
        (["--seed", str(2**32)], "--seed is 4294967296; it must be 0 or more, and at most 4294967295"),
        (["--max-drop", "nan"], "--max-drop is nan points; it must be from 0 to 100"),
        (["--mean", "nan", "--std", "1"], "mean.0 is nan: input should be a finite number"),
        (["--data", "cifar11"], "there is no data set 'cifar11'; did you mean"),
        (["--model", "no_such_module:make"], "importing 'no_such_module' failed"),
    ],
)
def test_invalid_options(options, said, at_desk, command, tmp_path):
    own = ("--model", "cli_tiny_network:make", "--data", "digits")
    status, out, err = command("compress", *own, "--folder", tmp_path / "run", *options)
    assert (status, out) == (2, "")
    assert said in err


def test_plan_of_a_recipe_and_of_compress(at_desk, command, command_json):
    status, out, _ = command("plan", "short.toml")
    assert status == 0
    assert out.startswith("plan: 3,826 parameters, 3 epochs, ")
    assert "\n  zeros: 50.0 % of the prunable weights, 15.2 % of all\n" in out  # 1,152 of 3,784 weights are prunable
    status, found = command_json("plan", *OWN)
    assert status == 0
    names = list(dict.fromkeys(stage["candidate"] for stage in found["stages"]))
    assert names[:3] == ["", "INT8", "INT8 trained"]
    assert found["epochs"] == sum(stage["epochs"] for stage in found["stages"]) == 6 + 2 * 10
    assert found["disk_bytes"] > 0


def test_a_study_is_no_recipe(at_desk, command):
    status, _, err = command("run", "study.toml")
    assert status == 2
    assert "study.toml: it has arms, so it is a study, not a recipe; run it with paretrim study" in err


def test_plan_of_a_study_counts_its_seeds(at_desk, command, command_json):
    status, out, _ = command("plan", "study.toml")
    assert status == 0
    assert "for each of 2 seeds:" in out
    both, one = (command_json("plan", "study.toml", *seed)[1] for seed in ((), ("--seed", "1")))
    assert (both["seeds"], one["seeds"]) == (2, 1)
    assert both["epochs"] == 2 * one["epochs"] > 0
    assert both["disk_bytes"] == 2 * one["disk_bytes"]


def test_a_plan_counts_the_measuring_that_it_does_not_predict(at_desk, command, command_json):
    """Runtimes × threads × seeds are sessions; with --max-latency-ms every candidate has one of its own before."""
    runtimes = ("--runtimes", "paretrim,onnxruntime", "--threads", "1,2")
    for given, sessions, files in (
        (("short.toml",), 4, 3),
        (("study.toml",), 2 * 4, 3),
        ((*OWN[:4], "--candidates", "int8", "--max-bytes", "1000"), 4, 2),
        ((*OWN[:4], "--candidates", "int8", "--max-latency-ms", "1"), 1 + 4, 2),
    ):
        _, found = command_json("plan", *given, *runtimes)
        assert found["timing"] == {"sessions": sessions, "files": files, "processes": 4, "rounds": 30}
    _, out, _ = command("plan", "short.toml", *runtimes, "--effort", "standard")
    assert (
        "\n  measuring latency comes on top, and its time is not predicted: up to 4 sessions of up to 3 files, each in 300 "
        "rounds in 5 processes\n"
    ) in out
    _, out, _ = command("plan", "short.toml", "--effort", "none")
    assert "latency" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "plan needs either a recipe file, or --model and --data as for compress"),
        (["short.toml", "--model", "resnet20"], "plan needs either a recipe file"),
        (["--model", "resnet20"], "plan with --model needs --data too"),
        (
            ["study.toml", "--folder", "runs"],
            "plan takes --folder for a recipe or for compress, not for a study; leave out --folder",
        ),
    ],
)
def test_invalid_plans_are_refused(arguments, said, at_desk, command):
    status, _, err = command("plan", *arguments)
    assert status == 2
    assert said in err


def test_without_an_onnx_file_the_best_is_delivered_alone(at_desk, command, command_json, tmp_path, monkeypatch):
    def refuse(graph, path, *, facts):
        raise UnsupportedOperation("not this network")

    monkeypatch.setattr(judge, "export_onnx", refuse)
    (tmp_path / "best.onnx").write_text("of an earlier best")
    arguments = ("compress", *OWN, "--folder", tmp_path, "--max-bytes", "1000000")
    status, out, err = command(*arguments)
    assert (status, (tmp_path / "best.trim").exists(), (tmp_path / "best.onnx").exists()) == (0, True, False)
    assert f"in {tmp_path / 'best.trim'}, without an ONNX file" in out.replace("\n", " ")
    assert "INT8: its .trim file is delivered and no ONNX file: not this network" in err
    _, found = command_json(*arguments)
    assert found["best"]["onnx"] is None


def test_a_network_with_nothing_to_prune_is_quantized_and_says_what_was_left_out(at_desk, command, tmp_path):
    Path("cli_one_layer.py").write_text(
        "from torch import nn\n\ndef make(classes, channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, classes))\n"
    )
    own = ("--model", "cli_one_layer:make", "--data", "digits", "--dense-epochs", "2", "--epochs", "0", "--effort", "none")
    status, out, err = command("compress", *own, "--folder", tmp_path / "run")
    assert status == 0
    assert "left out: 25% of channels removed, INT8; 50% of channels removed" in err
    assert "best: INT8 " in out
    status, out, _ = command("plan", *own[:-2])
    assert status == 0
    assert "channels removed" not in out
    status, _, err = command("compress", *own, "--folder", tmp_path / "channels", "--candidates", "channels")
    assert status == 2
    assert "none of the candidates fits this network, as no channels of this network can be removed" in err
