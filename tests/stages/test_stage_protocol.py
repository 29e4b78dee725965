"""What a stage may do while it trains: look at gradients, move masks, replace layers, train modules of its own, ask a teacher."""

from dataclasses import replace

import pytest
import torch
from tiny import CLASSES, SHORT, Interrupted, dense, image_set, resources, same, start, state
from training_stages import LONG, Grows, Hint, HintWhileNarrowing, Moves, MovesMasks, Narrows, NarrowsWhileObserving

import paretrim.train.fit
from paretrim.errors import DataUnavailable
from paretrim.network.network import Network
from paretrim.run.pipeline import run_stage, run_stages
from paretrim.stages.distill.stage import Distill
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.together import Together

STAGES = {"observes": MovesMasks(budget=LONG), "narrows": Narrows(budget=LONG), "hint": Hint(budget=LONG)}
STAGES |= {"grows": Grows(budget=LONG), "moves": Moves(budget=LONG)}
STAGES |= {"narrows while observing": NarrowsWhileObserving(budget=LONG), "hint while narrowing": HintWhileNarrowing(budget=LONG)}
STAGES |= {
    f"quantize to {grid}": Quantize(budget=LONG, formats={"*": Format(grid=grid)}, activations="offset")
    for grid in ("codebook", "powers", "trained-ternary")
}
STAGES["all at once"] = Together(parts=(MovesMasks(), Hint()), budget=LONG)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("kind", STAGES)
def test_a_killed_stage_resumes_bit_for_bit(kind, optimizer, tmp_path, monkeypatch):
    stage = replace(STAGES[kind], budget=replace(LONG, optimizer=optimizer))
    parent = dense("residual")
    before = state(parent)
    expected = run_stage(parent, stage, resources("residual"))
    assert same(before, state(parent))
    assert not any("total" in name or "projection" in name for name in state(expected))
    epoch = paretrim.train.fit._Work.epoch

    def killed(work, number, *rest):
        epoch(work, number, *rest)
        if number == killed.after:
            raise Interrupted

    for killed.after in (1, 2):
        with monkeypatch.context() as patched:
            patched.setattr(paretrim.train.fit._Work, "epoch", killed)
            with pytest.raises(Interrupted):
                run_stage(parent, stage, resources("residual"), folder=tmp_path)
    ran = []
    monkeypatch.setattr(paretrim.train.fit._Work, "epoch", lambda work, *rest: ran.append(rest[0]) or epoch(work, *rest))
    assert same(state(expected), state(run_stage(parent, stage, resources("residual"), folder=tmp_path)))
    assert ran == [2]


def test_calibration_images_have_their_labels():
    images, labels = resources("plain").labelled_calibration()
    whole = image_set()
    assert torch.equal(labels, whole.labels[: len(labels)])
    assert len(images) == len(labels)
    assert int(labels.max()) < CLASSES
    with pytest.raises(DataUnavailable, match="calibration images have no labels here, and this stage needs a loss on them"):
        replace(resources("plain"), calibration_labels=None).labelled_calibration()


def test_a_stage_leaves_no_modules_behind(tmp_path):
    chain = (MovesMasks(budget=SHORT), Quantize(budget=SHORT), Distill(budget=SHORT))
    found = run_stages(start("residual"), chain, tmp_path)
    assert [stage.name for stage in found[-1].history] == ["moves_masks", "quantize", "distill"]
    assert found[-1].integers is not None
    assert isinstance(found[-1].network, Network)
