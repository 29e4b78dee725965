"""The small pretrained networks that come with Paretrim, each with a card: accuracy, bytes, recipe and licence.

>>> import paretrim.runtime
>>> session = paretrim.runtime.pretrained("cifar10-resnet20")  # doctest: +SKIP
>>> session.class_names[session(images)[0].argmax()]  # doctest: +SKIP
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

from paretrim.errors import CorruptFile, DataUnavailable
from paretrim.runtime.session import Session, load
from paretrim.visible import brief

FOLDERS = (Path(__file__).parents[1] / "models", Path(__file__).parents[3] / "models")
"""The folder of the files in an installed package, and in a checkout."""


@dataclass(frozen=True)
class Card:
    """Facts about a network that comes with Paretrim.

    ``accuracy`` is the share of the ``test_images`` test images of ``data`` that the file classifies correctly, with its 95 %
    interval ``low`` to ``high`` (Wilson); ``dense_accuracy`` is that of the network before compression. ``weights`` names the
    source of the trained weights, ``recipe`` the way they were compressed.
    """

    name: str
    network: str
    data: str
    accuracy: float
    low: float
    high: float
    dense_accuracy: float
    test_images: int
    file_bytes: int
    sha256: str
    zeros: float
    weights: str
    licence: str
    recipe: str
    path: Path


def pretrained_cards() -> tuple[Card, ...]:
    """The cards of all networks that come with Paretrim, sorted by name.

    Raises:
        CorruptFile: a card cannot be read.
    """
    found = {path.stem: path for folder in reversed(FOLDERS) for path in folder.glob("*.trim")}
    return tuple(_card(found[name]) for name in sorted(found))


def pretrained(name: str, *, threads: int = 1) -> Session:
    """One of the networks that come with Paretrim, ready to run; it takes uint8 pixels [N, C, H, W].

    Raises:
        DataUnavailable: no network has this name.
        CorruptFile: its file is damaged.
    """
    cards = {card.name: card for card in pretrained_cards()}
    if not isinstance(name, str) or name not in cards:
        near = difflib.get_close_matches(str(name), cards, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise DataUnavailable(f"no pretrained network is called {brief(name)}; choose one of {', '.join(cards)}{hint}")
    return load(cards[name].path, threads=threads)


def _card(path: Path) -> Card:
    try:
        return Card(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")), path=path)
    except (OSError, ValueError, TypeError) as error:
        raise CorruptFile(f"the card of '{path}' cannot be read ({error}); install Paretrim again") from error
