"""A .trim file is delivered even if the ONNX file fails its check or cannot be written."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from efforts import LEAST

import paretrim
from paretrim.cli import main
from paretrim.data.load import load
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.runnable import compared, open_runnable, read_graph
from paretrim.errors import CorruptFile, ExportMismatch, InvalidRecipe, OutOfSpace, UnsupportedOperation
from paretrim.report import document, terminal
from paretrim.results import store
from paretrim.results.timing import RuntimeSetting, deployments_of, left_out
from paretrim.run import delivery, judge
from paretrim.run.candidate import Candidate
from paretrim.run.delivery import TimingPlan
from paretrim.run.judge import deploy
from paretrim.run.pipeline import run_stages
from paretrim.run.progress import silent
from paretrim.run.run import open_recipe, run_recipe
from paretrim.run.start import start_from
from paretrim.search.climb import _first, compress_towards
from paretrim.search.ladder import Targets, ladder
from paretrim.search.study import run_study, time_study
from paretrim.search.study_spec import StudySpec
from paretrim.stages.quantize.stage import Quantize

BOTH = (RuntimeSetting("paretrim", 1), RuntimeSetting("onnxruntime", 1))


@pytest.fixture
def wrong_export(monkeypatch):
    """Integer networks are exported with the bias of the last layer upside down; returns the paths written to."""
    written = []

    def export(graph, path, *, facts):
        written.append(path)
        *nodes, last = graph.nodes
        if graph.quantized:
            flipped = {**last.tensors, "bias": last.tensors["bias"][::-1] + np.arange(-4, 6, dtype=np.int32) * 10**6}
            last = replace(last, tensors=flipped)
        export_onnx(replace(graph, nodes=(*nodes, last)), path, facts=facts)

    monkeypatch.setattr(judge, "export_onnx", export)
    return written


def refuse(error):
    def export(graph, path, *, facts):
        raise error

    return export


@pytest.fixture
def start(recipe):
    return start_from(recipe, load(recipe.data))[0]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_network_in_floats_whose_onnx_file_cannot_be_written_is_delivered(start, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "export_onnx", refuse(UnsupportedOperation("two values would be named 'x'")))
    deployed = deploy(Candidate(start.network), start, tmp_path)
    assert (deployed.onnx, deployed.onnx_problem) == (None, "two values would be named 'x'")
    assert names(tmp_path) == ["model.trim", "onnx-problem.json"]
    # What was found out once is known; other versions of the packages may do better.
    monkeypatch.setattr(judge, "export_onnx", export_onnx)
    assert deploy(Candidate(start.network), start, tmp_path).onnx_problem == "two values would be named 'x'"
    facts = json.loads((tmp_path / "onnx-problem.json").read_text())
    (tmp_path / "onnx-problem.json").write_text(json.dumps(facts | {"versions": {"onnx": "0.1"}}))
    assert deploy(Candidate(start.network), start, tmp_path).onnx == tmp_path / "model.onnx"
    assert names(tmp_path) == ["model.onnx", "model.onnx.sha256", "model.trim"]


def test_a_full_disk_is_no_reason_to_go_without_an_onnx_file(start, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "export_onnx", refuse(OutOfSpace("the disk is full")))
    with pytest.raises(OutOfSpace, match="the disk is full"):
        deploy(Candidate(start.network), start, tmp_path)
    assert names(tmp_path) == ["model.trim"]
    monkeypatch.undo()
    assert deploy(Candidate(start.network), start, tmp_path).onnx_problem is None


def test_a_run_goes_on_without_an_onnx_file_and_says_so(recipe, tmp_path, wrong_export, capsys):
    notes = []
    watcher = replace(silent(), note=notes.append)
    dense, pruned, quantized = run_recipe(recipe, tmp_path, measuring=TimingPlan(BOTH, LEAST), watcher=watcher)
    assert dense.file == pruned.file == "model.onnx"
    assert (quantized.file, quantized.file_bytes, quantized.entropy_bytes, quantized.onnx_value) == (None, None, None, None)
    assert quantized.onnx_problem.startswith("in ONNX Runtime ")
    assert ") is the first that differs: given the same inputs, " in quantized.onnx_problem
    assert quantized.runtime == "paretrim"
    assert [(latency.runtime, latency.baseline) for latency in quantized.latencies] == [("paretrim", "dense")]
    assert len(dense.latencies) == 2
    said = f"{quantized.label}: its .trim file is delivered and no ONNX file: {quantized.onnx_problem}"
    assert said in notes
    assert store.latest(store.read(tmp_path / "outcomes.jsonl")) == (dense, pruned, quantized)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{quantized.label} has no ONNX file, and no latency where one is needed: " in page
    told = " ".join(terminal.text([dense, pruned, quantized], width=200).split())
    assert f"{quantized.label} has no ONNX file, and no latency where one is needed: " in told
    assert "| none |" in document.render([dense, pruned, quantized], title="x")

    exports = len(wrong_export)
    assert run_recipe(recipe, tmp_path, measuring=TimingPlan(BOTH, LEAST)) == (dense, pruned, quantized)
    assert len(wrong_export) == exports
    assert main(["export", str(tmp_path), "--to", str(tmp_path / "a.onnx")]) == 1
    assert "has no ONNX file: in ONNX Runtime " in capsys.readouterr().err
    assert not (tmp_path / "a.onnx").exists()
    assert main(["export", str(tmp_path), "--to", str(tmp_path / "a.trim")]) == 0
    assert main(["export", str(tmp_path), "--label", "dense", "--to", str(tmp_path / "a.onnx")]) == 0

    with pytest.raises(InvalidRecipe, match=rf"'{quantized.label}' has no ONNX file, and other outcomes are from before \.trim"):
        terminal.text([replace(dense, trim_bytes=None), quantized])


def test_without_the_onnx_file_of_the_baseline_the_next_network_is_the_baseline(recipe, tmp_path, monkeypatch):
    def export(graph, path, *, facts):
        if not graph.quantized:
            raise UnsupportedOperation("not this one")
        export_onnx(graph, path, facts=facts)

    monkeypatch.setattr(judge, "export_onnx", export)
    dense, pruned, quantized = run_recipe(recipe, tmp_path, measuring=TimingPlan(BOTH, LEAST))
    assert (dense.runtime, dense.deployed_value) == ("paretrim", dense.trained_value)
    for one in (dense, pruned):
        assert [(latency.runtime, latency.baseline) for latency in one.latencies] == [("paretrim", dense.label)]
    assert [(latency.runtime, latency.baseline) for latency in quantized.latencies] == [
        ("paretrim", dense.label),
        ("onnxruntime", quantized.label),
    ]


def test_a_study_goes_on_and_is_timed_once(recipe, tmp_path, wrong_export):
    spec = StudySpec("tiny", (0,), 0, (("dense", ()), ("int8", (recipe.stages[1],))), replace(recipe, stages=()))
    said = []
    first = run_study(spec, tmp_path / "run", tmp_path / "results", watcher=replace(silent(), note=said.append))
    assert [outcome.file for outcome in first] == ["model.onnx", None]
    assert any("its .trim file is delivered and no ONNX file: " in text for text in said)
    timed = time_study(spec, tmp_path / "run", tmp_path / "results", effort=LEAST, settings=BOTH)
    assert [len(outcome.latencies) for outcome in timed] == [2, 1]
    said.clear()
    assert (
        time_study(
            spec, tmp_path / "run", tmp_path / "results", effort=LEAST, settings=BOTH, watcher=replace(silent(), note=said.append)
        )
        == timed
    )
    assert said == []


@pytest.fixture
def openvino_without_integers(monkeypatch):
    """OpenVINO does not open the ONNX files of integer networks."""

    def fail(path, *, runtime, threads=1):
        if runtime == "openvino" and read_graph(path.with_name("model.trim")).quantized:
            raise CorruptFile("no kernel")
        return open_runnable(path, runtime=runtime, threads=threads)

    monkeypatch.setattr(judge, "open_runnable", fail)


WITH_OPENVINO = (RuntimeSetting("paretrim", 1), RuntimeSetting("openvino", 1))


def test_a_file_that_does_not_run_is_left_out_of_the_timings(recipe, tmp_path, openvino_without_integers):
    notes = []
    watcher = replace(silent(), note=notes.append)
    dense, _, quantized = run_recipe(recipe, tmp_path, measuring=TimingPlan(WITH_OPENVINO, LEAST), watcher=watcher)
    assert [latency.runtime for latency in dense.latencies] == ["paretrim", "openvino"]
    assert [latency.runtime for latency in quantized.latencies] == ["paretrim"]
    assert f"{quantized.label} is not timed in openvino: its ONNX file does not run there: no kernel" in notes
    assert "timing 3 files in paretrim with 1 thread" in notes
    assert "timing 2 files in openvino with 1 thread" in notes


def compressed(recipe, folder, settings):
    """INT8 without training, held against a latency that everything meets; with the notes on the way."""
    notes = []
    opened = open_recipe(replace(recipe, stages=()), silent())
    found = compress_towards(
        Targets(max_latency_ms=1e6),
        ladder(0, ["int8"], budget=paretrim.Budget()),
        opened,
        folder,
        measuring=TimingPlan(settings, LEAST),
        watcher=replace(silent(), note=notes.append),
        reproduce=(),
    )
    return found, notes


def test_a_latency_target_holds_in_the_first_runtime_that_runs_the_candidate(recipe, tmp_path, openvino_without_integers):
    found, notes = compressed(recipe, tmp_path, (RuntimeSetting("openvino", 1), RuntimeSetting("paretrim", 1)))
    assert "INT8: not timed in openvino: no kernel" in notes
    assert not any("latency" in text for text in found.missed)
    (latency,) = found.outcomes[1].latencies
    assert (latency.runtime, found.best.p50_ms) == ("paretrim", latency.p50_ms)

    # What an earlier run measured elsewhere is no latency in the runtimes of this one.
    found, notes = compressed(recipe, tmp_path, (RuntimeSetting("openvino", 1),))
    assert found.outcomes[1].latencies == (latency,)
    assert found.best.p50_ms is None
    assert any("none of the runtimes measured runs the candidate; name others in --runtimes" in text for text in found.missed)


def test_a_latency_that_another_runtime_gave_in_its_place_is_not_the_first():
    settings = (RuntimeSetting("paretrim", 1), RuntimeSetting("onnxruntime", 2), RuntimeSetting("onnxruntime", 1))
    in_place = SimpleNamespace(runtime="onnxruntime", threads=1, in_place_of="paretrim")
    one, two = (SimpleNamespace(runtime="onnxruntime", threads=threads, in_place_of=None) for threads in (1, 2))
    assert _first([in_place, one, two], settings) is two
    assert _first([in_place, one], settings) is one
    assert _first([in_place], settings) is None


def test_a_study_leaves_out_what_does_not_run_and_is_timed_once(recipe, tmp_path, openvino_without_integers):
    spec = StudySpec("tiny", (0,), 0, (("dense", ()), ("int8", (recipe.stages[1],))), replace(recipe, stages=()))
    said = []
    run_study(spec, tmp_path / "run", tmp_path / "results", watcher=replace(silent(), note=said.append))
    assert "int8: the ONNX file does not run in openvino: no kernel" in said
    for again in (False, True):
        timed = time_study(
            spec,
            tmp_path / "run",
            tmp_path / "results",
            effort=LEAST,
            settings=WITH_OPENVINO,
            watcher=replace(silent(), note=said.append),
        )
        assert [len(outcome.latencies) for outcome in timed] == [2, 1]
        assert ("int8 is not timed in openvino: its ONNX file does not run there: no kernel" in said) != again
        said.clear()


def test_a_network_is_left_out_where_its_onnx_file_does_not_run_and_timed_natively(start, tmp_path):
    files = {"dense": deploy(Candidate(start.network), start, tmp_path / "dense").folder / "model.onnx"}
    quantized = run_stages(start, [Quantize(budget=paretrim.Budget(epochs=0))], tmp_path)[-1]
    files["int8"] = deploy(quantized, start, tmp_path / "int8").folder / "model.onnx"
    problems = {"dense": {"onnxruntime": "no kernel"}, "int8": {"openvino": "none"}}
    for setting, names, out in (
        (
            RuntimeSetting("paretrim", 1),
            ["dense", "int8"],
            [],
        ),
        (
            RuntimeSetting("onnxruntime", 1),
            ["int8"],
            ["dense is not timed in onnxruntime: its ONNX file does not run there: no kernel"],
        ),
        (RuntimeSetting("openvino", 1), ["dense"], ["int8 is not timed in openvino: its ONNX file does not run there: none"]),
    ):
        assert [deployment.name for deployment in deployments_of(files, setting, problems)] == names
        assert [deployment.name for deployment in deployments_of(files, setting)] == ["dense", "int8"]
        assert [*left_out(files, setting, problems)] == out


def test_a_result_without_an_onnx_file(own, tmp_path, wrong_export, capsys):
    module, train, validation = own
    stages = [Quantize(budget=paretrim.Budget(epochs=0))]
    result = paretrim.compress(module, train, validation, stages=stages, folder=tmp_path / "run")
    assert "quantize: its .trim file is delivered and no ONNX file: " in capsys.readouterr().err
    assert ", no ONNX file: in ONNX Runtime " in repr(result)
    with pytest.raises(ExportMismatch, match=r"there is no ONNX file of '.*model\.trim': .* is the first that differs"):
        result.save(tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()
    assert result.save(tmp_path / "x.trim").stat().st_size > 0
    assert result.save(tmp_path / "x.graph").stat().st_size > 0


def test_a_resumed_run_says_again_what_does_not_run_until_other_packages_may_run_it(
    recipe, tmp_path, openvino_without_integers, monkeypatch
):
    notes = []
    watcher = replace(silent(), note=notes.append)
    said = "prune → quantize: the ONNX file does not run in openvino: no kernel"
    judged = []
    monkeypatch.setattr(delivery, "judge", lambda *given, **more: judged.append(given) or judge.judge(*given, **more))
    for count in (3, 0):
        notes.clear(), judged.clear()
        *_, quantized = run_recipe(recipe, tmp_path, watcher=watcher)
        assert notes.count(said) == 1
        assert len(judged) == count
        assert quantized.onnx_problems == {"openvino": "no kernel"}

    monkeypatch.setattr(judge, "open_runnable", open_runnable)
    monkeypatch.setattr(delivery, "versions", lambda: {"openvino": "9999"})
    notes.clear()
    *_, quantized = run_recipe(recipe, tmp_path, watcher=watcher)
    assert said not in notes
    assert len(judged) == 1  # the others had no problems
    assert (quantized.onnx_problems, set(quantized.onnx_agreements)) == (None, {"onnxruntime", "openvino"})
    assert store.latest(store.read(tmp_path / "outcomes.jsonl"))[-1] == quantized


def test_agreement_is_measured_in_every_runtime_that_is_installed(recipe, tmp_path, monkeypatch):
    notes = []
    dense, _, quantized = run_recipe(recipe, tmp_path)
    assert set(quantized.onnx_agreements) == set(dense.onnx_agreements) == {"onnxruntime", "openvino"}
    assert quantized.onnx_agreements["onnxruntime"] == quantized.onnx_agreement
    assert all(share >= 0.9 for share in quantized.onnx_agreements.values())
    told = " ".join(terminal.text([dense, quantized], width=250).split())
    assert "same class" in told
    share = f"{100 * quantized.onnx_agreements['openvino']:.2f} %"
    assert share in told
    assert f", in openvino {share} of the classes the same" in (tmp_path / "report.html").read_text(encoding="utf-8")

    def fail(path, *, runtime, threads=1):
        if runtime == "openvino":
            raise CorruptFile("no kernel")
        return open_runnable(path, runtime=runtime, threads=threads)

    monkeypatch.setattr(judge, "open_runnable", fail)
    watcher = replace(silent(), note=notes.append)
    *_, quantized = run_recipe(replace(recipe, seed=1), tmp_path / "other", watcher=watcher)
    assert (set(quantized.onnx_agreements), quantized.onnx_problems) == ({"onnxruntime"}, {"openvino": "no kernel"})
    assert f"{quantized.label}: the ONNX file does not run in openvino: no kernel" in notes
    page = (tmp_path / "other" / "report.html").read_text(encoding="utf-8")
    assert "the ONNX file does not run in openvino: no kernel" in page


@pytest.mark.parametrize(("count", "expected"), [(3, 3), (250, 250), (400, 250), (600, 500), (2400, 2000), (10_000, 2000)])
def test_agreement_is_measured_on_a_bounded_number_of_images_from_all_over_the_test_set(count, expected):
    positions = compared(count)
    assert len(positions) == len(set(positions)) == expected
    assert positions[0] == 0
    assert count - count / expected - 1 <= positions[-1] < count
    assert np.diff(positions).max(initial=1) <= -(-count // expected)
