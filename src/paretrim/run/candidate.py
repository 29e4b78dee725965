"""A network on its way through the stages, and its form on disk."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from pathlib import Path

from paretrim.errors import CorruptFile, ParetrimError
from paretrim.files import DAMAGE, path_of
from paretrim.graph.types import Graph
from paretrim.history import StageOutcome, stage_of
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.network.state import facts_of, network_of
from paretrim.remark import remark
from paretrim.torch_settings import usual_settings
from paretrim.train.checkpoint import load_state, save_state


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network and what was done to it. Masks and quantizers are read from the network, never stored twice.

    ``mean`` and ``std`` are what its images were normalised with, in units of pixel / 255; empty if that is not known.
    ``resize`` is the short side in pixels that they were resized to before their centre was cropped, 0 if that is not known.
    """

    network: Network
    history: tuple[StageOutcome, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: int = 0
    _frozen: tuple[object, Graph | None] = field(default=(None, None), init=False, repr=False)
    """The state of the network when it was frozen, and the frozen graph."""

    @property
    def integers(self) -> Graph | None:
        """The integer graph of a quantized network, taking normalised images; None for any other network.

        It is frozen once, at its first use, and again if the network has been trained in the meantime. Validation, judging and
        deploying share it.

        Raises:
            ParetrimError: see :func:`paretrim.network.freeze.freeze`.
        """
        state, (known, graph) = self._state(), self._frozen
        if known != state:
            graph = freeze(self.network) if self.network.quantizers() else None
            object.__setattr__(self, "_frozen", (state, graph))
        return graph

    def with_integers(self, integers: Graph | None) -> Candidate:
        """The same candidate with its integer graph, which is known already."""
        same = dataclasses.replace(self)
        object.__setattr__(same, "_frozen", (same._state(), integers))
        return same

    def _state(self) -> tuple[tuple[int, int], ...]:
        """A value that changes whenever a tensor of the network is replaced or written to."""
        tensors = itertools.chain(self.network.parameters(), self.network.buffers())
        return tuple((id(tensor), tensor._version) for tensor in tensors)

    @property
    def epochs(self) -> int:
        """Epochs trained so far, over all stages."""
        return sum(stage.epochs for stage in self.history)


def save_candidate(candidate: Candidate, path: Path) -> None:
    """Write network, masks, quantizers and history as one file, atomically."""
    facts = {
        **facts_of(candidate.network),
        "history": [stage.facts() for stage in candidate.history],
        **({"mean": candidate.mean, "std": candidate.std} if candidate.std else {}),
        **({"resize": candidate.resize} if candidate.resize else {}),
    }
    save_state(path, candidate.network.state_dict(), facts)


@usual_settings()
def load_candidate(path: Path | str) -> Candidate:
    """Read what :func:`save_candidate` wrote; no code of the user's network is needed.

    Raises:
        CorruptFile: the file is missing or damaged, or its parts do not fit each other.
    """
    path = path_of(path, "a candidate.safetensors")
    try:
        tensors, facts = load_state(path)
    except OSError as error:
        raise CorruptFile(f"'{path}' cannot be read: {error.strerror}; give the path of a candidate.safetensors") from error
    try:
        network = network_of(tensors, facts)
        history = tuple(stage_of(stage) for stage in facts["history"])
        mean, std = (tuple(map(float, facts.get(key, ()))) for key in ("mean", "std"))
        resize = int(facts.get("resize", 0))
    except (*DAMAGE, RuntimeError, ParetrimError) as error:
        raise CorruptFile(f"'{path}' does not hold a candidate ({error}); delete it and run the same command again") from error
    return Candidate(network.eval(), history, mean, std, resize)


def kept_candidate(path: Path) -> Candidate | None:
    """What an earlier run kept at ``path``; None if there is none, or if it is damaged, which a warning says.

    Raises:
        CorruptFile: the file is there and the system does not let it be read, so it may be whole.
    """
    if not path.exists():
        return None
    try:
        return load_candidate(path)
    except CorruptFile as error:
        if isinstance(error.__cause__, OSError):
            raise
        remark(f"'{path}' is damaged, so what made it runs again")
        return None
