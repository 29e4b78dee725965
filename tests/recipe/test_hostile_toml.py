"""Untrusted recipes and studies: any content is either accepted or rejected with one clear error, quickly."""

import datetime
import math
import os
import time
from pathlib import Path

import pytest
from nested_places import places, with_value

from paretrim.errors import InvalidRecipe
from paretrim.files import read_regular, require_name
from paretrim.run.recipe import DEEPEST, LARGEST_TOML, parse_recipe, read_recipe, read_toml
from paretrim.search.study_spec import StudySpec, parse_study, read_study

RECIPE = {
    "label": "a",
    "seed": 1,
    "calibration_images": 64,
    "model": {"network": "resnet20", "weights": "w.pt"},
    "teacher": {"network": "resnet56"},
    "data": {
        "name": "imagefolder:photos",
        "validation": 0.1,
        "split_seed": 0,
        "train_images": 9,
        "image_size": 8,
        "crop_padding": 1,
        "flip": True,
        "cutout": 0,
        "mean": [0.5],
        "std": [0.2],
    },
    "execution": {"device": "cpu", "precision": "float32", "compile": False},
    "dense": {
        "epochs": 1,
        "batch_size": 8,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.0,
        "schedule": "step",
        "warmup": 0.1,
        "milestones": [0.5],
        "label_smoothing": 0.1,
        "clip_norm": 1.0,
        "freeze_batchnorm": 0.9,
    },
    "stages": [
        {"stage": "prune", "sparsity": 0.5, "pattern": "1x4", "allocation": "cost", "costs": {"a": 1.0}},
        {"stage": "prune", "pattern": "channel", "multiple_of": 4, "budget": {"epochs": 1}},
        {"stage": "prune", "schedule": "cubic", "start": 0.1, "end": 0.5, "budget": {"epochs": 1}},
        {"stage": "quantize", "weight_bits": 8, "calibrator": "percentile", "percentile": 99.9, "rate": 0.001},
        {"stage": "together", "parts": [{"stage": "distill", "temperature": 4.0, "alpha": 0.9}], "budget": {"epochs": 1}},
    ],
}

STUDY = {
    "name": "small",
    "seeds": [0, 1],
    "epochs": 10,
    "arms": ["prune quantize", "prune+quantize"],
    "base": {"model": {"network": "resnet20"}, "data": {"name": "digits"}},
    "stages": {"prune": {"share": 0.5, "budget": {"learning_rate": 0.02}}, "quantize": {"share": 0.5, "stage": "quantize"}},
}

HOSTILE = (
    *(-1, 0, 2**62, -(2**63), 10**5000, 1e308, -1e308, 5e-324, math.inf, -math.inf, math.nan, True, None),
    *("", "x" * 100_000, "a\x1b[2J", "\x00", "\udcff", "../../x", "/etc", "con"),
    *([], {}, [[]], [{}], [1e308], [math.nan], {"": 1}, {"x": {}}, {"epochs": {}}, datetime.date(2000, 1, 1)),
)


@pytest.mark.parametrize(("table", "parse"), [(RECIPE, parse_recipe), (STUDY, parse_study)], ids=["recipe", "study"])
def test_any_value_anywhere_is_taken_or_refused_in_one_short_message(table, parse):
    parse(table)
    messages = {}
    for place in list(places(table))[1:]:
        for number, value in enumerate(HOSTILE):
            try:
                parse(with_value(table, place, value))
            except InvalidRecipe as error:
                messages[place, number] = str(error)
    assert [key for key, message in messages.items() if len(message) > 3000 or not message.isprintable()] == []
    assert len(messages) > 20 * len(list(places(table)))


@pytest.mark.parametrize("key", ["learning_rate", "weight_decay", "clip_norm"])
@pytest.mark.parametrize("value", [1e308, math.inf, math.nan, -1.0])
def test_numbers_that_float32_cannot_train_with_are_refused_before_anything_runs(key, value):
    with pytest.raises(InvalidRecipe, match=rf"recipe\.dense\.{key} is {value!r}: input should be".replace("+", r"\+")):
        parse_recipe(with_value(RECIPE, ("dense", key), value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (".".join(["a"] * 50_000) + " = 1", f"is not TOML: a dotted key has more than {DEEPEST} parts"),
        (f"[{'.'.join(['a'] * 50_000)}]", f"a dotted key has more than {DEEPEST} parts"),
        ('"a" . ' * 20_000 + '"a" = 1', f"a dotted key has more than {DEEPEST} parts"),
        ('x = {s = """\n\\"""""", ' + "a." * 20_000 + "a = 1}", f"a dotted key has more than {DEEPEST} parts"),
        ("x = {s = '''\n''''', " + "a." * 20_000 + "a = 1}", f"a dotted key has more than {DEEPEST} parts"),
        ("a = " + "[" * 50_000, f"brackets are nested more than {DEEPEST} deep"),
        ("a = " + "{a = " * 40_000, f"brackets are nested more than {DEEPEST} deep"),
        ("a = " + "9" * 10_000, "Exceeds the limit"),
        ("a = 0x" + "f" * 10_000, "': a is a whole number beyond 64 bits; write a smaller one"),
        ("[x]\na = [1, 9223372036854775808]", "': x: a is a whole number beyond 64 bits"),
        ("a = " + '"""' * 80_000, "is not TOML"),
        ("a" * (LARGEST_TOML + 1), f"cannot be read: it has more than {LARGEST_TOML:,} bytes; give the path of a TOML file"),
        ("\udcff", "is not TOML: 'utf-8' codec can't decode"),
        ("a = '\x1b[2J'", "is not TOML: Found invalid character '\\x1b'"),
    ],
    ids=range(14),
)
def test_long_and_deeply_nested_texts_are_refused(tmp_path, text, said):
    file = tmp_path / "r.toml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    began = time.process_time()
    for read in (read_recipe, read_study):
        with pytest.raises(InvalidRecipe) as failed:
            read(file)
        assert said in str(failed.value)
    assert time.process_time() - began < 5


def test_long_texts_and_many_dots_are_fine(tmp_path):
    file = tmp_path / "r.toml"
    file.write_text(
        "\ufeff# " + "a." * 9000 + "\n[x]\n" + ".".join("abcdefgh") + " = ['" + "[." * 9000 + "']\n"
        'y = """\n' + "{b.c." * 9000 + '""""\nz = { ' + ", ".join(f'"layer.{n}.conv" = 0.5' for n in range(500)) + " }\n"
    )
    assert len(read_toml(file, "recipe")["x"]["z"]) == 500


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "zero in the path", "long name", "loop"])
def test_a_path_that_is_no_file_is_refused_at_once(tmp_path, kind):
    place = tmp_path / "r.toml"
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place = Path("/dev/zero")
    elif kind == "loop":
        place.symlink_to(place)
    else:
        place = tmp_path / ("a\0b" if kind == "zero in the path" else "a" * 5000)
    with pytest.raises(InvalidRecipe, match=r"recipe '.*' cannot be read: .*; give the path of a TOML file"):
        read_recipe(place)


def test_a_file_is_read_whole_or_not_at_all(tmp_path):
    (tmp_path / "f").write_bytes(b"12345")
    assert read_regular(tmp_path / "f", at_most=5) == b"12345"
    with pytest.raises(OSError, match="it has more than 4 bytes"):
        read_regular(tmp_path / "f", at_most=4)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../../evil", "/tmp/x", "a/b", "a\\b", "C:x", " a", "a.", ".hidden"),
        *("con", "NUL.txt", "com1", "a\nb", "a\x1b", "x" * 101, "é" * 60, "\udcff", 3, None, ["a"]),
    ],
)
def test_names_that_would_leave_their_folder_are_refused(name):
    with pytest.raises(InvalidRecipe, match=r"study\.name is .*; it names a folder, so write 1 to 100 printable characters"):
        parse_study(STUDY | {"name": name})
    with pytest.raises(InvalidRecipe, match=r"the study's name is .*; it names a folder"):
        StudySpec(name, (0,), 1, (), parse_recipe(STUDY["base"]))


@pytest.mark.parametrize("name", ["orders-cifar10", "My study 2", "größe_1.5", "console"])
def test_ordinary_names_are_kept(name):
    assert require_name(name, "name") == name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stages": {"prune": 3}}, r"study\.stages is \{'prune': 3\}; write each stage as a table \[stages\.NAME\]"),
        ({"arms": "prune"}, r"study\.arms is 'prune'; list them as texts in brackets"),
        ({"base": 3}, r"study\.base is 3; write it as a table"),
        ({"seeds": [2**32]}, r"study\.seeds is \[4294967296\]; list different whole numbers from 0 to 4294967295"),
        ({"stages": {**STUDY["stages"], "prune": {"share": math.nan}}}, r"stages\.prune\.share is nan; give a number from 0"),
        ({"stages": {"prune": {"share": 0}, "quantize": {"share": 0}}}, "the shares of its stages are all 0"),
        ({"stages": {**STUDY["stages"], "prune": {"budget": 3}}}, "budget of prune is 3; write it as a table"),
    ],
)
def test_what_a_study_gets_wrong_is_named(changes, said):
    with pytest.raises(InvalidRecipe, match=said):
        parse_study(STUDY | changes)


def test_a_label_is_one_printable_line():
    for label in ("a\nb", "\x1b[2J", "x" * 201):
        with pytest.raises(InvalidRecipe, match=r"label is .*; write at most 200 printable characters"):
            parse_recipe(RECIPE | {"label": label})
