"""CLIP-Q: pruning and quantization in one loop, with rates per layer that Bayesian optimisation can choose."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from paretrim.errors import InvalidRecipe, MissingDependency
from paretrim.method import Method
from paretrim.network.clipped_means import SHARE, ClippedMeans
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.evaluation_mode import evaluating
from paretrim.network.network import Network
from paretrim.settings import Idle, settings
from paretrim.stages.quantize.layer_formats import Bits
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget, Count, NotNegative
from paretrim.train.evaluate import worth
from paretrim.train.execution import fast_batches
from paretrim.train.losses import LossTerm
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

METHODS = (
    Method(
        name="clipq",
        kind="stage",
        source="Tung & Mori 2018 (CLIP-Q), CVPR 2018",
        what="in every step, clip small weights to 0 and quantize the others to few values; zeros may be restored until the end",
        formula="w' = 0 for c- < w <= c+, else the mean of its interval\n"
        "rates (p, b) of each layer: min of error - weight * share of bits saved",
        recipe="clip-q",
    ),
)

Share = Annotated[float, Field(ge=0.0, lt=1.0, strict=True)]


@settings()
class Rate:
    """Rates of one layer: the ``share`` of weights of each sign that become 0, and the ``bits`` of the others."""

    share: Share = SHARE
    bits: Bits = 4


_IDLE = (
    Idle(("weight",), lambda stage: stage.trials == 0, "trials is 0, so that no rates are chosen", "set trials above 0"),
    Idle(
        ("share", "bits"),
        lambda stage: stage.trials > 0,
        "{trials} trials choose the rates of all layers that rates does not name",
        "set trials to 0",
    ),
)


@settings(idle=_IDLE)
class ClipQ:
    """Prune and quantize weights together while they train; activations are uint8 as in ``quantize``.

    In every step, ``share`` of a layer's negative and of its positive weights, those closest to 0, are set to 0, and the others
    to the means of ``2^bits - 1`` even intervals. Weights train in full precision underneath, so both can change in every step.
    At the end zeros become a mask.

    ``rates`` sets them for single layers; all others have ``share`` and ``bits``. With ``trials`` above 0 the rates of all layers
    that ``rates`` does not name are chosen first, in that many trials of Bayesian optimisation (a Gaussian process; the paper
    needs 20 to 30). It minimises the error on calibration images minus ``weight`` times the share of saved bits, without
    training. It needs Optuna: ``pip install paretrim[bayes]``.

    Source: Tung & Mori 2018, "CLIP-Q: deep network compression learning by in-parallel pruning-quantization", CVPR 2018, sections
    3.1 and 3.2. The weight of the bits is ours.

    Raises:
        MissingDependency: ``trials`` is above 0 and Optuna is not installed.
    """

    name: ClassVar[str] = "clipq"
    budget: Budget = Field(default_factory=Budget)
    share: Share = SHARE
    bits: Bits = 4
    rates: dict[str, Rate] | None = None
    trials: Count = 0
    weight: NotNegative = 1.0

    def __post_init__(self) -> None:
        if self.trials and find_spec("optuna") is None:
            raise MissingDependency(
                f"clipq: {self.trials} trials of Bayesian optimisation need Optuna, which is not installed; run "
                "pip install 'paretrim[bayes]', or set trials to 0 and give rates"
            )

    def begin(self, network: Network, resources: Resources, /) -> Training:
        """A quantized copy with clipped weights.

        Raises:
            InvalidRecipe: ``rates`` names a layer that does not exist.
        """
        named = self.rates or {}
        layers = weighted_layers(network)
        for name in named:
            if name not in layers:
                raise InvalidRecipe(f"clipq: rates names layer '{name}', which does not exist; layers are {', '.join(layers)}")
        private = Quantize(budget=Budget(epochs=0)).begin(network, resources).network
        rates = {name: named.get(name, Rate(self.share, self.bits)) for name in layers}
        if self.trials:
            rates |= self._searched(private, resources, [name for name in layers if name not in named])
        put_rates_(private, rates)
        return Training(private, resources)

    def _searched(self, network: Network, resources: Resources, names: list[str]) -> dict[str, Rate]:
        trial = copy.deepcopy(network)
        images, labels = resources.labelled_calibration()

        def cost(rates: Mapping[str, Rate]) -> float:
            put_rates_(trial, rates)
            return self.cost(_merit(trial, images, labels, resources), saved_bits(trial, rates))

        return optimised(cost, names, trials=self.trials, seed=resources.seed)

    def cost(self, merit: float, saved: float) -> float:
        """The objective to minimise."""
        return -merit - self.weight * saved

    def advance(self, training: Training, progress: float, /) -> None:
        """At the end zeros become a mask."""
        if progress < 1:
            return
        for layer in weighted_layers(training.network).values():
            alive = layer.effective_weight().detach() != 0
            set_mask_(layer, alive if layer.mask is None else alive & layer.mask)

    def observe(self, training: Training, step: Step, /) -> None:
        """Do nothing: gradients are not used."""

    def losses(self, _resources: Resources, /) -> tuple[LossTerm, ...]:
        """Cross-entropy with the labels, the default."""
        return ()


def put_rates_(network: Network, rates: Mapping[str, Rate]) -> None:
    """Give the weights of these layers grids with these rates."""
    layers = weighted_layers(network)
    for name, rate in rates.items():
        weight = layers[name].masked_weight().detach()
        layers[name].quantizer = ClippedMeans.with_share(weight, bits=rate.bits, share=rate.share).to(weight.device)


def saved_bits(network: Network, rates: Mapping[str, Rate]) -> float:
    """Share of bits that these layers save, relative to 32-bit weights: ``1 - sum n (1 - share) bits / sum 32 n``."""
    sizes = {name: weighted_layers(network)[name].weight.numel() for name in rates}
    used = sum(sizes[name] * (1 - rate.share) * rate.bits for name, rate in rates.items())
    return 1 - used / (32 * sum(sizes.values()))


def _merit(network: Network, images: Tensor, labels: Tensor, resources: Resources) -> float:
    """The task's metric on these images, as a number for which higher is better."""
    with evaluating(network), torch.no_grad():
        parts = [network.outputs(part) for part in fast_batches(network, images)]
    outputs = tuple(torch.cat(output).float().cpu().numpy() for output in zip(*parts, strict=True))
    return resources.task.metric.merit(worth(resources.task, torch.from_numpy(resources.task.decide(outputs)), labels.cpu()))


def optimised(cost: Callable[[Mapping[str, Rate]], float], names: list[str], *, trials: int, seed: int) -> dict[str, Rate]:
    """The rates with the smallest cost among those tried by a Gaussian process."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def rates_of(parameters: Mapping[str, float]) -> dict[str, Rate]:
        return {name: Rate(float(parameters[f"share {name}"]), int(parameters[f"bits {name}"])) for name in names}

    def objective(trial: optuna.Trial) -> float:
        for name in names:
            trial.suggest_float(f"share {name}", 0.0, 0.95)
            trial.suggest_int(f"bits {name}", 2, 8)
        return cost(rates_of(trial.params))

    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.GPSampler(seed=seed))
    study.optimize(objective, n_trials=trials)
    return rates_of(study.best_params)
