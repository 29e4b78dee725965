"""Multiple-choice knapsack: one choice per item with the smallest total loss within a budget, solved exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_SLACK = 1e-9
"""Relative rounding error of a bound; states within it are kept."""

_HALVINGS = 200

Costs = npt.NDArray[np.int64]
Losses = npt.NDArray[np.float64]


def least_loss(losses: Sequence[Sequence[float]], costs: Sequence[Sequence[int]], budget: int) -> list[int] | None:
    """The choice for every item that minimises the sum of losses within ``budget``.

    Items are added one by one. A partial sum is kept if no other beats it in both cost and loss, if it leaves room for the
    remaining items, and if its lower bound, from the cost multiplier that solves the relaxed problem, is not above a known
    solution.

    Args:
        losses: of every choice of every item, 0 or more.
        costs: in the same layout, non-negative integers.
        budget: maximum sum of the costs.

    Returns:
        The choices; None if even the cheapest exceed the budget.

    Source: multiple-choice knapsack by dominance and bounds, Kellerer et al. 2004, "Knapsack Problems", chapter 11.
    """
    loss_of = [np.asarray(some, np.float64) for some in losses]
    cost_of = [np.asarray(some, np.int64) for some in costs]
    least = np.array([some.min() for some in cost_of], np.int64)
    if least.sum() > budget:
        return None
    budget = min(budget, sum(int(some.max()) for some in cost_of))  # more cannot be spent, and may be beyond int64
    price, known = _price(loss_of, cost_of, budget)
    relaxed = [float((loss + price * cost).min()) for loss, cost in zip(loss_of, cost_of, strict=True)]
    spent, lost = np.zeros(1, np.int64), np.zeros(1, np.float64)
    steps: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
    for item, (loss, cost) in enumerate(zip(loss_of, cost_of, strict=True)):
        all_spent, all_lost = (spent[:, None] + cost).ravel(), (lost[:, None] + loss).ravel()
        bound = all_lost + price * (all_spent - budget) + sum(relaxed[item + 1 :])
        scale = abs(known) + price * budget + sum(relaxed)
        kept = np.flatnonzero((all_spent + least[item + 1 :].sum() <= budget) & (bound <= known + _SLACK * scale))
        kept = kept[np.lexsort((all_lost[kept], all_spent[kept]))]
        best_before = np.concatenate([[np.inf], np.minimum.accumulate(all_lost[kept])[:-1]])
        kept = kept[all_lost[kept] < best_before]
        steps.append((kept // len(cost), kept % len(cost)))
        spent, lost = all_spent[kept], all_lost[kept]
    place, chosen = len(lost) - 1, []
    for parents, choices in reversed(steps):
        chosen.append(int(choices[place]))
        place = int(parents[place])
    return chosen[::-1]


def _price(losses: Sequence[Losses], costs: Sequence[Costs], budget: int) -> tuple[float, float]:
    """The smallest price of a unit of cost at which the best choices keep the budget, and the sum of their losses."""

    def at(price: float) -> tuple[int, float]:
        spent, lost = 0, 0.0
        for loss, cost in zip(losses, costs, strict=True):
            best = np.lexsort((cost, loss + price * cost))[0]
            spent, lost = spent + int(cost[best]), lost + float(loss[best])
        return spent, lost

    if at(0.0)[0] <= budget:
        return 0.0, at(0.0)[1]
    low, high = 0.0, max(float(loss.max()) for loss in losses) + 1e-300  # no item gains this much for a unit of cost
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if at(middle)[0] <= budget else (middle, high)
        if middle in (low, high) and high - low <= 1e-15 * high:
            break
    return high, at(high)[1]
