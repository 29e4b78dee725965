"""How many blocks each layer keeps: splitting one sparsity over a network.

All methods do the same thing with different keys. Every block of every layer gets a key that does not depend on the requested
sparsity, and the K blocks with the largest keys are kept, K = blocks - round(sparsity * blocks) over all layers together. Hence
the count is exact, and masks are nested: a larger sparsity removes from every layer all that a smaller one removes.

===============  ===========================================================================================================
``global``       key = the block's score; one threshold for the whole network (Han et al. 2015, arXiv 1506.02626)
``lamp``         key = the block's LAMP score within its layer (Lee et al. 2021, arXiv 2010.07611)
``cost``         key = the block's sum of squares / the cost of a block of its layer, for example in measured microseconds: of all
                 masks of equal cost, this keeps the most squared magnitude; at equal sparsity it is cheaper than ``global``
``speed``        key = the block's LAMP score / the cost of a block of its layer: expensive layers are not emptied
``uniform``      the i-th best block of a layer with n blocks has key n / (i - 1/2)
``erk``          the same with n * (sum of the weight's dimensions) / (product of the weight's dimensions) for n
                 (Evci et al. 2020, "Rigging the lottery", arXiv 1911.11134)
``sensitivity``  key of the i-th best block = increase of the loss, in a scan of its layer alone, without it and all worse ones
                 (Han et al. 2015, section 4; :mod:`paretrim.stages.prune.sensitivity`)
===============  ===========================================================================================================

Keys ``share / (i - 1/2)`` are Webster's (Sainte-Laguë) rule of apportionment: layer l keeps ``min(n_l, round(t * share_l))`` for
the one t that makes the total right. Taking the minimum is the "set dense and solve again" of RigL. The method of largest
remainders would also be exact in total, but with it a larger sparsity can give a layer back a block (the Alabama paradox).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Required, TypedDict, Unpack, get_args

import torch
from torch import Tensor

from paretrim.curves import Curve
from paretrim.errors import InvalidRecipe, WeightsMismatch, located
from paretrim.method import OURS, Method
from paretrim.stages.prune.block_costs import BY_COST, check_costs
from paretrim.stages.prune.patterns import Pattern, block_alive, block_scores, block_shape, mask_for, survivors
from paretrim.stages.prune.scores import lamp, largest

Allocation = Literal["global", "uniform", "erk", "lamp", "cost", "speed", "sensitivity"]

METHODS = (
    Method(
        name="global",
        kind="allocation",
        source="Han et al. 2015, arXiv 1506.02626",
        what="one threshold for the whole network",
        formula="keep the K blocks with the largest scores of all layers; K = blocks - round(sparsity * blocks)",
        recipe="magnitude",
    ),
    Method(
        name="uniform",
        kind="allocation",
        source="Zhu & Gupta 2017, arXiv 1710.01878",
        what="the same sparsity in every layer",
        formula="layer l with n_l blocks keeps round(t n_l); one t makes the total exact (Webster's rule)",
        recipe="uniform",
    ),
    Method(
        name="erk",
        kind="allocation",
        source="Evci et al. 2020, arXiv 1911.11134, section 3",
        what="Erdos-Renyi kernel: large layers become sparser than small ones",
        formula="density of layer l = min(1, t (Co + Ci + kh + kw) / (Co Ci kh kw)); one t makes the total exact",
        recipe="erk",
    ),
    Method(
        name="lamp",
        kind="allocation",
        source="Lee et al. 2021, arXiv 2010.07611, equation 2",
        what="scores comparable across layers: each squared score divided by the sum of those in its layer that are not smaller",
        formula="key(w) = s(w)^2 / sum of s(v)^2 over the weights v of the layer with s(v) >= s(w); keep the largest keys",
        recipe="lamp",
    ),
    Method(
        name="cost",
        kind="allocation",
        source=OURS,
        what="the largest squared score at a given compute cost of the remaining blocks",
        formula="key(block) = s(block)^2 / cost of a block of its layer; keep the largest keys",
        recipe="cost",
        settings=("prune.costs",),
    ),
    Method(
        name="speed",
        kind="allocation",
        source=OURS,
        what="LAMP scores weighed against the compute cost of the remaining blocks; the default of compress for blocks",
        formula="key(block) = LAMP score / (positions + 11), the time of a block of the layer in the native runtime; "
        "keep the largest keys",
        recipe="speed",
        settings=("prune.costs",),
    ),
)

MINIMUM_DENSITY = 0.005
"""Share of its blocks that every layer keeps before the method distributes the rest."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """One layer in blocks: scores (-inf for pruned blocks), numbers of unpruned and of guarded blocks, cost of a block, scan."""

    weight_shape: tuple[int, ...]
    scores: Tensor
    living: int
    guarded: int
    cost: float
    curve: Curve | None


def allocate(
    layers: Mapping[str, Tensor],
    sparsity: float,
    *,
    method: Allocation,
    pattern: Pattern,
    alive: Mapping[str, Tensor] | None = None,
    minimum_density: float = MINIMUM_DENSITY,
    costs: Mapping[str, float] | None = None,
    curves: Mapping[str, Curve] | None = None,
) -> dict[str, int]:
    """Number of blocks that every layer keeps; over all layers exactly ``round(sparsity * blocks)`` blocks are zero.

    No layer is emptied unless the sparsity is 1: each first gets ``max(1, floor(minimum_density * blocks))`` of its best blocks.
    If the sparsity leaves fewer than that in total, they are split uniformly, at least one each. If earlier pruning already made
    more zeros than requested, those zeros stay and none are added.

    Args:
        layers: non-negative scores of weights by layer name, [Co, Ci, kh, kw] or [out, in], larger means keep; they take the
            place of magnitudes in this module.
        sparsity: share of zero blocks in [0, 1] over all layers; for an n:m pattern 1 - n/m, and ``method`` is ignored.
        method: ``global``, ``uniform``, ``erk``, ``lamp``, ``cost``, ``speed`` or ``sensitivity``; see the module docstring.
        pattern: what a block is.
        alive: masks of earlier stages, for some or all layers; what is False there stays zero.
        minimum_density: see above, in [0, 1].
        costs: for ``cost`` and ``speed``, the cost of one kept block of each layer, above 0, in any unit; it may name layers that
            are not in ``layers``.
        curves: for ``sensitivity``, the scan of every layer, in blocks of this pattern and by these scores.

    Raises:
        InvalidRecipe: sparsity, method, minimum density or a cost is not allowed, there are no layers, or fewer blocks than
            layers would be kept.
        TrainingFailed: a score is not finite.
        WeightsMismatch: a mask in ``alive`` fits no layer.
        UnsupportedOperation: a weight has fewer than two dimensions.
    """
    _check(layers, sparsity, method, pattern, alive or {}, minimum_density)
    if method in BY_COST:
        check_costs(layers, costs or {}, method)
    if method == "sensitivity" and not pattern.fixed:
        _check_curves(layers, curves or {}, pattern)
    if pattern.fixed:
        return {name: survivors(_living(name, weight, alive), pattern) for name, weight in layers.items()}
    parts = {
        name: _layer(
            name, weight, pattern, alive, minimum_density, cost=(costs or {}).get(name, 1.0), curve=(curves or {}).get(name)
        )
        for name, weight in layers.items()
    }
    keep = _total(parts, sparsity)
    values = list(parts.values())
    guarded = [layer.guarded for layer in values]
    living = [layer.living for layer in values]
    sizes = [float(layer.scores.numel()) for layer in values]
    if keep <= sum(guarded):
        counts = _apportion(sizes, [0 if sparsity == 1 else min(1, n) for n in guarded], guarded, keep)
    elif method == "uniform":
        counts = _apportion(sizes, guarded, living, keep)
    elif method == "erk":
        shares = [
            size * sum(layer.weight_shape) / math.prod(layer.weight_shape) for size, layer in zip(sizes, values, strict=True)
        ]
        counts = _apportion(shares, guarded, living, keep)
    else:
        counts = _rank([_keys(layer, method, pattern) for layer in values], keep)
    return dict(zip(parts, counts, strict=True))


class Splitting(TypedDict, total=False):
    """The keywords of :func:`allocate`, with the same defaults, for functions that pass them on."""

    method: Required[Allocation]
    pattern: Required[Pattern]
    alive: Mapping[str, Tensor] | None
    minimum_density: float
    costs: Mapping[str, float] | None
    curves: Mapping[str, Curve] | None


def masks(layers: Mapping[str, Tensor], sparsity: float, **splitting: Unpack[Splitting]) -> dict[str, Tensor]:
    """Boolean masks of the weights' shapes: the blocks of every layer with the largest scores, as many as :func:`allocate` gives.

    Masks of the same scores at rising sparsity are nested. Arguments and Raises as for :func:`allocate`.
    """
    counts = allocate(layers, sparsity, **splitting)
    pattern, alive, result = splitting["pattern"], splitting.get("alive"), {}
    for name, weight in layers.items():
        with located(f"layer '{name}'"):
            result[name] = mask_for(weight, counts[name], pattern, alive=_living(name, weight, alive))
    return result


def _check(
    layers: Mapping[str, Tensor],
    sparsity: float,
    method: str,
    pattern: Pattern,
    alive: Mapping[str, Tensor],
    minimum_density: float,
) -> None:
    if not layers:
        raise InvalidRecipe("there are no layers to prune; name at least one convolution or linear layer")
    if not 0 <= sparsity <= 1:
        raise InvalidRecipe(f"sparsity {sparsity} is not a share of zeros; give a number from 0 to 1")
    if not 0 <= minimum_density <= 1:
        raise InvalidRecipe(f"minimum density {minimum_density} is not a share; give a number from 0 to 1")
    if method not in get_args(Allocation):
        raise InvalidRecipe(f"allocation '{method}' is unknown; choose one of {', '.join(get_args(Allocation))}")
    if pattern.sparsity is not None and not math.isclose(sparsity, pattern.sparsity, abs_tol=1e-9):
        raise InvalidRecipe(
            f"pattern '{pattern.text}' always has sparsity {pattern.sparsity:g}, not {sparsity:g}; "
            f"ask for {pattern.sparsity:g} or choose another pattern"
        )
    for name, mask in alive.items():
        if name not in layers:
            raise WeightsMismatch(f"there is a mask for '{name}' but no such layer; layers are {', '.join(layers)}")
        if mask.shape != layers[name].shape or mask.dtype != torch.bool:
            raise WeightsMismatch(
                f"the mask of layer '{name}' is {mask.dtype} {tuple(mask.shape)}; it must be torch.bool "
                f"{tuple(layers[name].shape)} like the weight"
            )


def _check_curves(layers: Mapping[str, Tensor], curves: Mapping[str, Curve], pattern: Pattern) -> None:
    for name, weight in layers.items():
        units = math.prod(block_shape(weight.shape, pattern))
        if name not in curves or curves[name].units != units:
            given = f"of {curves[name].units} blocks" if name in curves else "missing"
            raise InvalidRecipe(
                f"allocation 'sensitivity' needs a scan of layer '{name}' in its {units} blocks, but that is {given}; "
                "scan all layers with the pattern that is pruned"
            )


def _living(name: str, weight: Tensor, alive: Mapping[str, Tensor] | None) -> Tensor:
    if alive is not None and name in alive:
        return alive[name]
    return torch.ones_like(weight, dtype=torch.bool)


def _layer(
    name: str,
    weight: Tensor,
    pattern: Pattern,
    alive: Mapping[str, Tensor] | None,
    minimum_density: float,
    *,
    cost: float,
    curve: Curve | None,
) -> _Layer:
    living = _living(name, weight, alive)
    with located(f"layer '{name}'"):
        scores = block_scores(weight.where(living, 0), pattern)
    possible = block_alive(living, pattern)
    count = int(possible.sum())
    guarded = min(count, max(1, math.floor(minimum_density * scores.numel())))
    return _Layer(tuple(weight.shape), scores.where(possible, -torch.inf), count, guarded, cost, curve)


def _total(layers: Mapping[str, _Layer], sparsity: float) -> int:
    """Blocks to keep in all layers together."""
    blocks = sum(layer.scores.numel() for layer in layers.values())
    living = [name for name, layer in layers.items() if layer.living]
    keep = min(blocks - round(sparsity * blocks), sum(layer.living for layer in layers.values()))
    if keep < len(living) and sparsity < 1:
        raise InvalidRecipe(
            f"sparsity {sparsity} leaves {keep} of {blocks} blocks for {len(living)} layers, but every layer keeps at least one; "
            f"ask for at most {math.floor((1 - len(living) / blocks) * 1e6) / 1e6:g}"
        )
    return keep


def _apportion(shares: Sequence[float], low: Sequence[int], high: Sequence[int], keep: int) -> list[int]:
    """Webster's rule within bounds: ``clip(round(t * share), low, high)`` for the t that makes the sum ``keep``.

    Needs sum(low) <= keep <= sum(high). If several layers would gain a block at the same t, earlier ones go first.
    """

    def at(t: float) -> list[int]:
        return [min(most, max(least, math.floor(t * s + 0.5))) for s, least, most in zip(shares, low, high, strict=True)]

    below, above = 0.0, max((most + 1) / s for s, most in zip(shares, high, strict=True))
    while below < (middle := (below + above) / 2) < above:
        if sum(at(middle)) <= keep:
            below = middle
        else:
            above = middle
    counts = at(below)
    missing = keep - sum(counts)
    for index, most in enumerate(at(above)):
        extra = min(missing, most - counts[index])
        counts[index] += extra
        missing -= extra
    return counts


def _keys(layer: _Layer, method: Allocation, pattern: Pattern) -> Tensor:
    """Keys of all methods that rank, flat; the guarded blocks come first (+inf), pruned blocks last (-inf)."""
    keys = layer.scores
    if method == "lamp" or method in BY_COST:
        energy = keys.clamp(min=0) if pattern.block > 1 else keys.clamp(min=0).double().square()
        gains = energy if method == "cost" else lamp(energy)
        keys = (gains / layer.cost if method in BY_COST else gains).where(torch.isfinite(layer.scores), -torch.inf)
    if method == "sensitivity" and layer.curve is not None:
        keys = _by_rank(layer.scores, torch.from_numpy(layer.curve.keys()))
    return keys.where(~largest(layer.scores, layer.guarded), torch.inf).flatten()


def _by_rank(scores: Tensor, keys: Tensor) -> Tensor:
    """The i-th key for the i-th largest score; -inf where the score is -inf."""
    order = torch.argsort(scores.flatten(), descending=True, stable=True)
    found = torch.empty(len(keys), dtype=torch.float64, device=scores.device)
    found[order] = keys.to(scores.device)
    return found.reshape(scores.shape).where(torch.isfinite(scores), -torch.inf)


def _rank(keys: Sequence[Tensor], keep: int) -> list[int]:
    """How many of the ``keep`` largest keys are in each layer."""
    chosen = largest(torch.cat(list(keys)), keep)
    return [int(part.sum()) for part in torch.split(chosen, [len(part) for part in keys])]
