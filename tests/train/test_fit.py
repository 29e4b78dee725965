"""The training loop: resumption, refusals, determinism, golden losses."""

from dataclasses import replace

import pytest
import torch
from tiny import CLASSES, FLOAT32, MEAN, SHAPE, SHORT, STAGES, STD, Interrupted, dense, image_set, network, resources, same, state
from torch import nn

import paretrim.train.fit
from paretrim.capture import capture
from paretrim.data.batches import Batch, EvalBatches
from paretrim.data.types import ImageSet
from paretrim.errors import DataUnavailable, TrainingFailed
from paretrim.network.network import Network
from paretrim.run.pipeline import run_stage
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.checkpoint import Checkpoints, form_of
from paretrim.train.evaluate import evaluate
from paretrim.train.execution import Execution
from paretrim.train.fit import CHECK_EVERY, Plan, fit
from paretrim.train.losses import LossTerm, cross_entropy
from paretrim.train.optimizer import parameters_of
from paretrim.train.training import Training

LONG = replace(SHORT, epochs=3)
CPU = torch.device("cpu")


def train(module, plan, resources, **settings):
    return fit(Training(module, resources), plan, **settings)


def plan(budget=SHORT, losses=(), advance=lambda _progress: None):
    return Plan("finetune", budget, losses, advance)


def interrupt_in_epoch(monkeypatch, number, error=Interrupted):
    """Make the second step of epoch ``number`` fail."""
    step, seen = paretrim.train.fit._Work.step, []

    def failing(work, batch, epoch, step_number):
        seen.append(epoch)
        if seen.count(number) == 2:
            raise error("stop")
        return step(work, batch, epoch, step_number)

    monkeypatch.setattr(paretrim.train.fit._Work, "step", failing)


@pytest.mark.parametrize(
    ("kind", "optimizer"), [*((kind, "sgd") for kind in STAGES), ("together", "adamw"), ("quantize", "adamw")]
)
def test_an_interrupted_stage_goes_on_to_the_same_bits(kind, optimizer, tmp_path, monkeypatch):
    stage = replace(STAGES[kind], budget=replace(LONG, optimizer=optimizer, warmup=0.2, lookahead=2))
    expected = run_stage(dense("residual"), stage, resources("residual"))
    for epoch in (1, 2):
        with monkeypatch.context() as patched:
            interrupt_in_epoch(patched, epoch)
            with pytest.raises(Interrupted):
                run_stage(dense("residual"), stage, resources("residual"), folder=tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["epoch-00001.safetensors", "epoch-00002.safetensors"]
    found = run_stage(dense("residual"), stage, resources("residual"), folder=tmp_path)
    assert same(state(expected), state(found))
    assert found.history[-1].value_after == expected.history[-1].value_after


def test_a_damaged_newest_checkpoint_costs_one_epoch(tmp_path, monkeypatch):
    expected = run_stage(dense("residual"), replace(STAGES["together"], budget=LONG), resources("residual"))
    run_stage(dense("residual"), replace(STAGES["together"], budget=LONG), resources("residual"), folder=tmp_path)
    newest = tmp_path / "epoch-00003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    ran = []
    run = paretrim.train.fit._Work.epoch
    monkeypatch.setattr(
        paretrim.train.fit._Work, "epoch", lambda work, epoch, *rest: ran.append(epoch) or run(work, epoch, *rest)
    )
    found = run_stage(dense("residual"), replace(STAGES["together"], budget=LONG), resources("residual"), folder=tmp_path)
    assert ran == [2]
    assert same(state(expected), state(found))


def test_masks_flags_scales_and_momentum_come_back(tmp_path):
    stage = replace(STAGES["together channel"], budget=LONG)
    given = resources("residual")

    def worker():
        training = stage.begin(dense("residual").network, given)
        plan = Plan("x", LONG, (), lambda progress: stage.advance(training, progress))
        return training.network, paretrim.train.fit._Work(training, plan, CPU)

    private, work = worker()
    kept = Checkpoints(tmp_path, form_of(private))
    for epoch in range(2):
        work.epoch(epoch, 0.0, None)
    kept.save(work.training, work.optimizer, paretrim.train.fit.Moment(2, 1.5))
    again, other = worker()
    assert not same(state(private), state(again))
    assert other.resume(kept) == (2, 1.5)
    assert same(state(private), state(again))
    assert any("alive" in key for key in state(again))
    for left, right in zip(private.parameters(), again.parameters(), strict=True):
        moments = work.optimizer.state[left]["momentum_buffer"], other.optimizer.state[right]["momentum_buffer"]
        assert torch.equal(*moments)
    work.epoch(2, 0.0, None)
    other.epoch(2, 0.0, None)
    assert [norm.frozen for norm in private.batch_norms().values()] == [norm.frozen for norm in again.batch_norms().values()]
    assert same(state(private), state(again))


def test_the_first_step_of_batchnorm_biases_is_as_many_times_as_long_as_their_rate():
    def first_step(rate):
        budget = replace(SHORT, momentum=0.0, batchnorm_bias_rate=rate)
        work = paretrim.train.fit._Work(Training(network("plain"), resources("plain")), plan(budget, (cross_entropy(),)), CPU)
        before = state(work.network)
        work.step(next(iter(work.batches.epoch(0))), 0, 0)
        norms = work.network.batch_norms().values()
        biases = {f"layers.{key}.beta" for key, layer in work.network.layers.items() if layer in norms}
        return {name: value - before[name] for name, value in state(work.network).items()}, biases

    (plain, biases), (faster, _) = first_step(1.0), first_step(64.0)
    assert biases
    assert biases < set(plain)
    for name, moved in plain.items():
        torch.testing.assert_close(faster[name], 64 * moved if name in biases else moved, rtol=1e-4, atol=1e-6)


def test_parameters_come_in_the_order_of_torch():
    """Sums over all parameters, such as the norm that gradients are clipped to, depend on it."""
    module = nn.ModuleDict({"network": network("residual"), "extra": nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2))})
    assert all(ours is theirs for ours, theirs in zip(parameters_of(module), module.parameters(), strict=True))


def test_lookahead_averages_every_so_many_steps(monkeypatch):
    called = []
    monkeypatch.setattr(paretrim.train.fit, "look_ahead_", lambda _optimizer, progress: called.append(progress))
    work = paretrim.train.fit._Work(Training(network("plain"), resources("plain")), plan(replace(LONG, lookahead=2)), CPU)
    steps = len(work.batches)
    assert steps > 1
    for epoch in range(3):
        work.epoch(epoch, 0.0, None)
    assert called == [step / (3 * steps) for step in range(3 * steps) if step % 2 == 1]


def test_ctrl_c_leaves_the_last_finished_epoch_and_goes_through(tmp_path, monkeypatch):
    interrupt_in_epoch(monkeypatch, 1, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        train(network("plain"), plan(), resources("plain"), folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00001.safetensors"]


def test_ramps_see_every_epoch_begin_and_exactly_one_end():
    seen = []
    train(network("plain"), plan(LONG, advance=seen.append), resources("plain"))
    assert seen == pytest.approx([step / 9 for step in range(9)] + [1.0])
    seen.clear()
    train(network("plain"), plan(replace(LONG, epochs=0), advance=seen.append), resources("plain"))
    assert seen == [1.0]
    seen.clear()
    train(network("plain"), plan(replace(LONG, epochs=7, batch_size=4), advance=seen.append), resources("plain"))
    assert len(seen) < 130  # 210 steps, 105 ticks, 7 first steps
    assert seen == sorted(seen)


def test_statistics_are_kept_in_the_last_tenth_of_quantized_training_only(monkeypatch):
    frozen = []
    step = paretrim.train.fit._Work.step

    def looking(work, batch, epoch, number):
        before = [norm.mean.clone() for norm in work.network.batch_norms().values()]
        result = step(work, batch, epoch, number)
        after = [norm.mean for norm in work.network.batch_norms().values()]
        frozen.append(all(torch.equal(*pair) for pair in zip(before, after, strict=True)))
        return result

    monkeypatch.setattr(paretrim.train.fit._Work, "step", looking)
    run_stage(dense("residual"), Quantize(budget=LONG), resources("residual"))
    assert frozen == [False] * 9  # the last of 9 steps begins at 8/9
    frozen.clear()
    run_stage(dense("residual"), Quantize(budget=replace(LONG, epochs=7)), resources("residual"))
    assert frozen == [False] * 19 + [True] * 2
    frozen.clear()
    run_stage(dense("residual"), Quantize(budget=replace(LONG, freeze_batchnorm=0.67)), resources("residual"))
    assert frozen == [False] * 7 + [True] * 2
    frozen.clear()
    run_stage(dense("residual"), STAGES["prune"], resources("residual"))
    assert not any(frozen)


def test_a_last_batch_of_one_image_uses_running_statistics():
    module = nn.Sequential(nn.Conv2d(3, 6, 8), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6, CLASSES))
    one_pixel = Network(capture(module, SHAPE))
    odd = ImageSet(image_set().images[:49], image_set().labels[:49])
    ticks = []
    train(one_pixel, plan(replace(SHORT, batch_size=48)), resources("plain", images=odd), report=ticks.append)
    assert [tick.step for tick in ticks] == [1, 2, 1, 2]
    assert all(torch.isfinite(tensor).all() for tensor in state(one_pixel).values())
    with pytest.raises(
        TrainingFailed, match="BatchNorm on maps of one pixel cannot train on batches of one image; set batch_size"
    ):
        train(Network(capture(module, SHAPE)), plan(replace(SHORT, batch_size=1)), resources("plain", images=odd))


def test_reports_say_where_training_stands():
    ticks = []
    train(network("plain"), plan(replace(LONG, epochs=2, batch_size=2)), resources("plain"), report=ticks.append)
    assert [(tick.epoch, tick.step) for tick in ticks] == [(e, s) for e in (1, 2) for s in (1, CHECK_EVERY + 1, 51, 60)]
    assert all(0 <= tick.value <= 1 and tick.epochs == 2 and tick.steps == 60 for tick in ticks)
    assert ticks[-1].seconds_left == 0


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_learning_rate_that_diverges_is_one_clear_error(optimizer, tmp_path):
    wild = replace(STAGES["finetune"], budget=replace(LONG, learning_rate=1e30, optimizer=optimizer))
    text = r"stage 2 \(finetune\): (the loss|weights) became .* epoch 1.*lower the learning rate \(1e\+30\)"
    with pytest.raises(TrainingFailed, match=text):
        run_stage(dense("residual"), wild, resources("residual"), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_become_nan_in_the_last_step_are_detected(monkeypatch):
    def breaking(work, batch, epoch, number):
        with torch.no_grad():
            next(work.network.parameters()).fill_(torch.nan)
        return torch.zeros(()), (torch.zeros(len(batch.labels), CLASSES),)

    monkeypatch.setattr(paretrim.train.fit._Work, "step", breaking)
    with pytest.raises(TrainingFailed, match="weights or statistics became infinite or NaN in epoch 1; lower the learning rate"):
        train(network("plain"), plan(), resources("plain"))


CPU_TEXT = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."
)


@pytest.mark.parametrize("error", [RuntimeError(CPU_TEXT), torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_running_out_of_memory_says_what_to_do(error, monkeypatch):
    def failing(*_):
        raise error

    monkeypatch.setattr(paretrim.train.fit._Work, "step", failing)
    with pytest.raises(
        TrainingFailed, match="memory ran out in epoch 1 with batches of 48 images; make batches half as large"
    ) as caught:
        train(network("plain"), plan(), resources("plain"))
    assert caught.value.__cause__ is error


def test_other_errors_are_not_mistaken_for_memory(monkeypatch):
    def failing(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(paretrim.train.fit._Work, "step", failing)
    with pytest.raises(RuntimeError, match="something else"):
        train(network("plain"), plan(), resources("plain"))


@pytest.mark.parametrize(("labels", "text"), [([0, 4], r"labels 0\.\.4"), ([-1, 1], r"labels -1\.\.1")])
def test_labels_without_an_output_are_refused(labels, text):
    wrong = ImageSet(image_set().images[:2], torch.tensor(labels))
    with pytest.raises(
        TrainingFailed, match="a batch has " + text + r" and the network has 4 outputs \(0\.\.3\); number the classes from 0"
    ):
        train(network("plain"), plan(), resources("plain", images=wrong))


def test_a_loss_that_wants_a_teacher_is_refused_without_one():
    term = LossTerm(cross_entropy().function, needs_teacher=True)
    with pytest.raises(TrainingFailed, match="stage 'finetune' learns from a teacher and there is none; name one in the recipe"):
        train(network("plain"), plan(losses=(term,)), replace(resources("plain"), teacher=None))


def test_losses_may_look_at_named_features():
    seen = []

    def look(outputs):
        seen.append(outputs.features["left.1"].shape)
        return outputs.features["left.1"].square().mean()

    train(network("residual"), plan(losses=(cross_entropy(), LossTerm(look, 0.1, features=("left.1",)))), resources("residual"))
    assert seen[0] == (48, 8, 8, 8)


def test_bfloat16_trains_and_state_stays_float32():
    execution = Execution(device="cpu", precision="bfloat16")
    given = resources("residual", execution=execution)
    found = run_stage(dense("residual"), Quantize(budget=SHORT), given)
    assert {tensor.dtype for tensor in state(found).values()} == {torch.float32, torch.int32}
    types = []
    for quantizer in found.network.quantizers().values():
        quantizer.register_forward_hook(lambda _module, inputs, output: types.append((inputs[0].dtype, output.dtype)))
    with execution.autocast():
        found.network(given.calibration)
    assert all(taken == given for taken, given in types)
    assert (torch.bfloat16, torch.bfloat16) in types
    with execution.autocast():
        inside = evaluate(found.network, given.validation.epoch(0), torch.device("cpu"))
    assert inside == evaluate(found.network, given.validation.epoch(0), torch.device("cpu")) == found.history[-1].value_after


def test_evaluation_restores_the_mode_and_refuses_nothing_to_evaluate():
    module = network("plain").train()
    ready = EvalBatches(images=image_set(), batch_size=50, mean=MEAN, std=STD)
    assert 0 <= evaluate(module, ready.epoch(0), torch.device("cpu")) <= 1
    assert module.training
    with pytest.raises(DataUnavailable, match="no images to evaluate on; give validation data with at least one batch"):
        evaluate(module, iter(()), torch.device("cpu"))


class TenSteps:
    """Ten fixed batches of numbers written down here, so that no other part's change moves the golden losses."""

    sample_shape = SHAPE

    def __len__(self):
        return 10

    def epoch(self, _number, /):
        for step in range(10):
            grid = torch.arange(16 * 192, dtype=torch.float32).reshape(16, *SHAPE)
            yield Batch(torch.sin(grid * 0.37 + step), torch.arange(16) % CLASSES, None)


def set_from_names(module):
    """Weights that depend on their place alone, not on any random generator."""
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            values = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 1.7 + index)
            if parameter.dim() > 1:
                parameter.copy_((values / parameter[0].numel() ** 0.5).reshape(parameter.shape))


GOLDEN = (1.409810, 1.415867, 1.406759, 1.401321, 1.393717, 1.388281, 1.390989, 1.386899, 1.387150, 1.385881)
"""Float32, CPU. Another CPU or number of threads sums in another order: 1e-4 relative allows for that."""


def test_golden_losses():
    losses = []
    module = network("residual")
    set_from_names(module)

    def remember(outputs):
        loss = cross_entropy().function(outputs)
        losses.append(loss.item())
        return loss

    given = replace(resources("residual", execution=FLOAT32), train=lambda _size: TenSteps())
    train(module, plan(replace(SHORT, epochs=1, learning_rate=0.1, warmup=0.2), losses=(LossTerm(remember),)), given)
    assert losses == pytest.approx(GOLDEN, rel=1e-4)
