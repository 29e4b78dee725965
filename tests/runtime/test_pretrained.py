"""The bundled networks: their cards are correct, and three lines classify an image."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from script_files import script

import paretrim.runtime
from paretrim.errors import CorruptFile, DataUnavailable
from paretrim.intervals import wilson_interval
from paretrim.run.recipe import read_recipe
from paretrim.runtime import cards as module
from paretrim.trimfile.inspection import inspect

ROOT = Path(__file__).parents[2]
CARDS = paretrim.runtime.pretrained_cards()
LARGEST = 200_000


def test_every_file_of_the_folder_has_a_card():
    assert CARDS
    assert {card.path for card in CARDS} == {*(ROOT / "models").glob("*.trim")}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_is_true_of_its_file(card):
    content, found = card.path.read_bytes(), inspect(card.path)
    assert (card.file_bytes, card.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert card.file_bytes <= LARGEST
    assert card.zeros == pytest.approx(
        sum(one.zeros for one in found.layers) / sum(one.weights for one in found.layers), abs=1e-5
    )
    interval = wilson_interval(card.accuracy, card.test_images)
    assert (card.low, card.high) == pytest.approx((interval.low, interval.high), abs=1e-5)
    recipe = read_recipe(ROOT / "models" / card.recipe)
    assert (recipe.data.name, recipe.model.network) == (card.data, card.network)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_three_lines_classify_an_image(card):
    session = paretrim.runtime.pretrained(card.name)
    image = np.zeros((1, *session.shape), np.uint8)
    assert session.class_names[session(image)[0].argmax()] in session.class_names


def test_the_table_is_what_the_script_writes():
    made = script("scripts/model_card.py").table(CARDS)
    assert (ROOT / "models" / "README.md").read_text(encoding="utf-8") == made


def test_an_unknown_name_is_one_error():
    first = CARDS[0].name
    with pytest.raises(DataUnavailable, match=rf"is called '{first}x'; choose one of {first}.*; did you mean '{first}'\?"):
        paretrim.runtime.pretrained(first + "x")


def test_a_damaged_card_is_one_error(tmp_path, monkeypatch):
    card = json.loads(CARDS[0].path.with_suffix(".json").read_text())
    shutil.copyfile(CARDS[0].path, tmp_path / "one.trim")
    (tmp_path / "one.json").write_text(json.dumps(card | {"colour": "red"}))
    monkeypatch.setattr(module, "FOLDERS", (tmp_path,))
    with pytest.raises(CorruptFile, match=r"the card of '.*one.trim' cannot be read .*colour.*; install Paretrim again"):
        paretrim.runtime.pretrained_cards()
