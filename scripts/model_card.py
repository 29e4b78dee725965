"""Add a compressed file to models/: test it on all test images, write its card, and update the table of all cards.

    python scripts/model_card.py NAME FILE.trim --recipe RECIPE.toml --dense-accuracy 0.9173 --weights TEXT --licence TEXT
    python scripts/model_card.py            only update the table, models/README.md

The accuracy is that of the file in the native runtime. The recipe names the network and the data.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

from paretrim.intervals import wilson_interval
from paretrim.runtime import load
from paretrim.runtime.cards import Card, pretrained_cards
from paretrim.trimfile.inspection import inspect

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "models"
LARGEST = 200_000
"""Maximum bytes of a file, so that a clone and a wheel stay small."""

HEAD = """<!-- Written by scripts/model_card.py from the cards beside it; do not edit. -->

# Bundled networks

Each is a `.trim` file with a card (`.json`), and is part of the installed package:

```python
import paretrim.runtime

session = paretrim.runtime.pretrained("{name}")
print(session.class_names[session(images)[0].argmax()])  # uint8 pixels [N, 3, 32, 32]
```

Accuracy is that of the file in the native runtime on all test images, with a 95 % interval (Wilson). It is measured for one set
of weights: it says how good this file is, not how good the method is.

| name | network, data | accuracy | before | bytes | zeros | recipe |
|---|---|---|---|---|---|---|
"""


def card_of(given: argparse.Namespace) -> Card:
    """Test a file and return its card."""
    from paretrim.data.load import load as load_data  # imports torch
    from paretrim.data.spec import DataSpec
    from paretrim.run.recipe import read_recipe

    session, found = load(given.file), inspect(given.file)
    recipe = read_recipe(given.recipe)
    images = load_data(DataSpec(recipe.data.name, folder=given.data_folder)).test
    right = float((session(images.images.numpy()).argmax(axis=1) == images.labels.numpy()).mean())
    interval = wilson_interval(right, len(images))
    content = given.file.read_bytes()
    if len(content) > LARGEST:
        raise SystemExit(f"{given.file} has {len(content)} bytes; a file in models/ has at most {LARGEST}")
    return Card(
        name=given.name,
        network=recipe.model.network,
        data=recipe.data.name,
        accuracy=right,
        low=round(interval.low, 5),
        high=round(interval.high, 5),
        dense_accuracy=given.dense_accuracy,
        test_images=len(images),
        file_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        zeros=round(sum(layer.zeros for layer in found.layers) / sum(layer.weights for layer in found.layers), 5),
        weights=given.weights,
        licence=given.licence,
        recipe=given.recipe.name,
        path=FOLDER / f"{given.name}.trim",
    )


def table(cards: tuple[Card, ...]) -> str:
    """models/README.md."""
    text = HEAD.replace("{name}", cards[0].name)
    for card in cards:
        text += (
            f"| [{card.name}]({card.name}.json) | {card.network}, {card.data} | {100 * card.accuracy:.2f} % "
            f"[{100 * card.low:.2f}, {100 * card.high:.2f}] | {100 * card.dense_accuracy:.2f} % | {card.file_bytes:,} "
            f"| {100 * card.zeros:.0f} % | [{card.recipe}]({card.recipe}) |\n"
        )
    return text + "\n" + "".join(f"- {card.name}: weights from {card.weights} ({card.licence}).\n" for card in cards)


def main() -> None:
    """Add a file if one is given, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?")
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--dense-accuracy", type=float)
    parser.add_argument("--weights", help="source of the trained weights")
    parser.add_argument("--licence", help="licence of the weights")
    parser.add_argument("--data-folder")
    given = parser.parse_args()
    if given.name:
        if None in (given.file, given.recipe, given.dense_accuracy, given.weights, given.licence):
            parser.error("a card needs FILE, --recipe, --dense-accuracy, --weights and --licence")
        facts = dataclasses.asdict(card_of(given))
        del facts["path"]
        shutil.copyfile(given.file, FOLDER / f"{given.name}.trim")
        (FOLDER / f"{given.name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        if given.recipe.resolve().parent != FOLDER:
            shutil.copyfile(given.recipe, FOLDER / given.recipe.name)
    (FOLDER / "README.md").write_text(table(pretrained_cards()), encoding="utf-8")


if __name__ == "__main__":
    main()
