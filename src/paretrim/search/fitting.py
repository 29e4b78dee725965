"""Which candidates of the ladder suit a network: those that find something to prune in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paretrim.errors import InvalidRecipe
from paretrim.network.network import Network
from paretrim.search.ladder import INT8, Rung
from paretrim.stages.prune.stage import Prune


def fitting(rungs: Sequence[Rung], network: Network, note: Callable[[str], None]) -> tuple[Rung, ...]:
    """The rungs that find something to prune in this network. Those that do not are noted, with the reason.

    Raises:
        InvalidRecipe: there is none.
    """
    found, left_out = [], dict[str, list[str]]()
    for rung in rungs:
        try:
            for stage in rung.stages:
                if isinstance(stage, Prune):
                    stage.require_prunable(network)
            found.append(rung)
        except InvalidRecipe as error:
            reason = str(error).removeprefix("prune: ").partition(";")[0]  # the next step that follows is one in a recipe
            left_out.setdefault(reason, []).append(rung.name)
    for reason, names in left_out.items():
        note(f"left out: {'; '.join(names)}, as {reason}")
    if not found:
        raise InvalidRecipe(f"none of the candidates fits this network, as {' and '.join(left_out)}; try --candidates {INT8}")
    return tuple(found)
