"""A recipe: everything that determines a run, as data.

Read from TOML, with errors that name the key, what was given and what is allowed. Its canonical JSON gives its digest.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field, SkipValidation

from paretrim.data.spec import DataSpec
from paretrim.digest import digest_of
from paretrim.errors import InvalidRecipe, reason_of
from paretrim.files import read_regular
from paretrim.models.spec import ModelSpec
from paretrim.run.teacher_spec import TeacherSpec, check_names
from paretrim.settings import Idle, checked, settings
from paretrim.stages.distill.stage import Distill
from paretrim.stages.prune.lottery import require_early
from paretrim.stages.prune.score_table import BY_TEACHER
from paretrim.stages.stage import Stage
from paretrim.stages.stage_table import STAGES
from paretrim.stages.together import Together, stage_label
from paretrim.stored_fields import LATER
from paretrim.train.budget import AtLeastOne, Budget
from paretrim.train.execution import Execution
from paretrim.visible import QUOTED, brief

LARGEST_TOML = 2**18
"""Most bytes of a recipe or a study. Handwritten ones have a few thousand."""

DEEPEST = 32
"""Most parts of a dotted key, and deepest nesting of brackets."""

LONGEST_LABEL = 200

MOST_TIMES = 100
"""Most rounds of one stage."""

DENSE = "dense"
"""Label of the result of a recipe without stages."""

_STRING_OR_COMMENT = re.compile(
    r'''"""(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5}|\Z)|'{3}(?:[^']|'(?!''))*+(?:'{3,5}|\Z)'''
    r"""|"(?:[^"\\\n]|\\.)*+"?|'[^'\n]*+'?|\#[^\n]*+""",
    re.DOTALL,
)
"""Strings and comments of a TOML file, unterminated ones included; matched in linear time."""

_LONG_KEY = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{DEEPEST}}}")


def _reads_teachers(stage: Stage) -> bool:
    """Whether a stage may ask for a teacher: some do, and what is not of this package might."""
    if isinstance(stage, Together):
        return any(map(_reads_teachers, stage.parts))
    score = str(getattr(stage, "score", ""))
    return isinstance(stage, Distill) or type(stage) not in STAGES.values() or score == BY_TEACHER or ":" in score


_IDLE = (
    Idle(
        ("teacher", "teachers"),
        lambda recipe: bool(recipe.stages) and not any(map(_reads_teachers, recipe.stages)),
        "no stage learns from a teacher",
        "add a distill stage",
        in_code=False,
    ),
)


@settings(idle=_IDLE)
class Recipe:
    """A network, data, stages in any order and number, a teacher and a seed.

    ``dense`` is the budget for training the network before all stages: from the weights that ``model`` names, else from its
    initialisation. The ``teacher`` is that dense network unless another is named; ``teachers`` are several, each with a name.
    ``task`` is what the network is for: ``classification``, or ``package.module:name`` of your own task.
    ``label`` is for people and does not enter the digest; nor do the device, ``compile`` and the folder of the data, which do not
    affect the outcome. Data and weights enter by name here and by content in :meth:`paretrim.run.start.Start.key`.
    """

    model: ModelSpec
    data: DataSpec
    stages: SkipValidation[tuple[Stage, ...]] = ()
    dense: Budget | None = None
    teacher: ModelSpec | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)] = 0
    calibration_images: AtLeastOne = 512
    execution: Execution = Field(default_factory=Execution)
    label: str = ""
    task: str = field(default="classification", metadata=LATER)
    teachers: tuple[TeacherSpec, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        check_names(self.teachers, self.teacher)
        if not self.label.isprintable() or len(self.label) > LONGEST_LABEL:
            raise InvalidRecipe(f"label is {brief(self.label)}; write at most {LONGEST_LABEL} printable characters")
        require_early(self.stages, self.dense)

    @property
    def order(self) -> tuple[str, ...]:
        """Names of the stages; parts of a simultaneous stage joined by ``+``."""
        return tuple(stage_label(stage) for stage in self.stages)

    @property
    def title(self) -> str:
        """The label, or the order in words."""
        return title_of(self.stages, self.label)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hexadecimal, 16 digits: the same for the same recipe everywhere."""
        return digest_of(canonical(self))


def title_of(stages: Sequence[Stage], label: str = "") -> str:
    """What tables call the result of these stages: the label, or else their order in words."""
    return label or " → ".join(map(stage_label, stages)) or DENSE


def stage_settings(stage: Stage) -> dict[str, Any]:
    """The settings of a stage as plain JSON values, with its name under ``stage``; :func:`parse_stage` reads them back.

    Settings that were added later and are at their default are left out (:data:`paretrim.history.LATER`).
    """
    if isinstance(stage, Together):
        parts = [{key: value for key, value in stage_settings(part).items() if key != "budget"} for part in stage.parts]
        return {"stage": stage.name, "budget": _plain(_used(stage.budget)), "parts": parts}
    return {"stage": stage.name, **_plain(_used(stage))}


def _used(settings: object) -> object:
    """All settings, at any depth, but those that came later and are at their default."""
    if dataclasses.is_dataclass(settings):
        given = {field.name: (field, getattr(settings, field.name)) for field in dataclasses.fields(settings)}
        return {name: _used(value) for name, (field, value) in given.items() if field.metadata != LATER or value != field.default}
    if isinstance(settings, dict):
        return {key: _used(value) for key, value in settings.items()}
    return [_used(value) for value in settings] if isinstance(settings, list | tuple) else settings


def _plain(facts: object) -> dict[str, Any]:
    """The same facts as JSON gives them back: tuples become lists."""
    return cast(dict[str, Any], json.loads(json.dumps(facts, allow_nan=False)))


def canonical(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON values; what does not affect the outcome is left out."""
    facts = _plain(_used(dataclasses.replace(recipe, stages=(), teachers=())))
    del facts["label"], facts["data"]["folder"]
    facts["execution"] = {"precision": recipe.execution.precision}
    facts["stages"] = [stage_settings(stage) for stage in recipe.stages]
    if recipe.teachers:
        facts["teachers"] = [teacher_settings(teacher) for teacher in recipe.teachers]
    return facts


def teacher_settings(teacher: TeacherSpec) -> dict[str, Any]:
    """The settings of one of several teachers as plain JSON values; without the place where its probabilities are stored."""
    return _plain(_used(dataclasses.replace(teacher, stages=(), store=""))) | {"stages": [*map(stage_settings, teacher.stages)]}


def read_recipe(path: Path | str) -> Recipe:
    """Read a recipe from a TOML file; relative paths in it are relative to the working folder.

    Raises:
        InvalidRecipe: the file is missing, is not TOML, or breaks a rule; the message names file and key.
    """
    if not isinstance(path, str | Path):
        raise InvalidRecipe(f"the path is {brief(path)}; give the path of a TOML file as a text or a Path")
    return parse_recipe(read_toml(Path(path), "recipe"), str(path))


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The tables of a TOML file; ``what`` says in errors what the file should be.

    Raises:
        InvalidRecipe: the file is missing or is not TOML.
    """
    try:
        text = read_regular(path, at_most=LARGEST_TOML).decode("utf-8-sig")
        _require_shallow(text)
        table = tomllib.loads(text)
    except OSError as error:
        raise InvalidRecipe(f"{what} '{path}' cannot be read: {error.strerror}; give the path of a TOML file") from error
    except (ValueError, RecursionError) as error:  # also text that is not UTF-8, and numbers of thousands of digits
        raise InvalidRecipe(f"{what} '{path}' is not TOML: {reason_of(error).partition(': ')[2]}") from error
    _require_64_bits(table, f"{what} '{path}'")
    return table


def _require_shallow(text: str) -> None:
    """Refuse what makes the parser slow or recurse deeply: its time grows with the square of the parts of a dotted key."""
    bare = _STRING_OR_COMMENT.sub("_", text)
    if _LONG_KEY.search(bare):
        raise ValueError(f"a dotted key has more than {DEEPEST} parts")
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", bare):
        depth += 1 if bracket in "[{" else -1
        if depth > DEEPEST:
            raise ValueError(f"brackets are nested more than {DEEPEST} deep")


def _require_64_bits(value: object, place: str) -> None:
    """Refuse integers beyond TOML's 64 bits; Python could not even print the largest in a message."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _require_64_bits(inner, f"{place}: {key[:QUOTED]}")
    elif isinstance(value, list):
        for inner in value:
            _require_64_bits(inner, place)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidRecipe(f"{place} is a whole number beyond 64 bits; write a smaller one")


def parse_recipe(table: object, where: str = "recipe") -> Recipe:
    """A recipe from nested tables, as TOML gives them.

    Raises:
        InvalidRecipe: a key is unknown or missing, or a value is not allowed.
    """
    if not isinstance(table, Mapping):
        raise InvalidRecipe(f"{where} is {brief(table)}; write it as a table")
    if "arms" in table:
        raise InvalidRecipe(f"{where}: it has arms, so it is a study, not a recipe; run it with paretrim study")
    given = dict(table)
    stages = _parse_stages(given.pop("stages", []), where, "[[stages]]")
    if "teachers" in given:
        given["teachers"] = _parse_teachers(given["teachers"], where)
    return checked(Recipe, {**given, "stages": stages}, where)


def _parse_stages(listed: object, where: str, written: str) -> tuple[Stage, ...]:
    if not isinstance(listed, list):
        raise InvalidRecipe(f"{where}: stages is {brief(listed)}; write each stage as a {written} table")
    return tuple(stage for index, entry in enumerate(listed) for stage in _parse_repeated(entry, f"{where}: stages[{index}]"))


def _parse_teachers(listed: object, where: str) -> tuple[TeacherSpec, ...]:
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
        raise InvalidRecipe(f"{where}: teachers is {brief(listed)}; write each teacher as a [[teachers]] table")
    places = [f"{where}: teachers[{index}]" for index in range(len(listed))]
    stages = [_parse_stages(one.get("stages", []), at, "[[teachers.stages]]") for one, at in zip(listed, places, strict=True)]
    return tuple(checked(TeacherSpec, {**one, "stages": own}, at) for one, own, at in zip(listed, stages, places, strict=True))


def _parse_repeated(table: object, where: str) -> tuple[Stage, ...]:
    """One stage from its table, repeated as its key ``times`` says, by default once."""
    if not isinstance(table, Mapping) or "times" not in table:
        return (parse_stage(table, where),)
    times = table["times"]
    if type(times) is not int or not 1 <= times <= MOST_TIMES:
        raise InvalidRecipe(f"{where}.times is {brief(times)}; write how often the stage is done, 1 to {MOST_TIMES}")
    return (parse_stage({key: value for key, value in table.items() if key != "times"}, where),) * times


def parse_stage(table: object, where: str) -> Stage:
    """One stage from its table; ``stage`` names it.

    Raises:
        InvalidRecipe: it is not a table, names no stage, or a setting is wrong.
    """
    if not isinstance(table, Mapping) or not isinstance(table.get("stage"), str):
        raise InvalidRecipe(f"{where}: every stage needs a key stage = one of {', '.join(STAGES)}")
    settings = {key: value for key, value in table.items() if key != "stage"}
    name = table["stage"]
    if name not in STAGES:
        near = difflib.get_close_matches(name, STAGES, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(STAGES)}"
        raise InvalidRecipe(f"{where}: there is no stage {brief(name)}; {hint}")
    if name == Together.name:
        parts = settings.get("parts", [])
        if not isinstance(parts, list):
            raise InvalidRecipe(f"{where}.parts is {brief(parts)}; write each part as a table with a key stage")
        settings["parts"] = tuple(parse_stage(part, f"{where}.parts[{index}]") for index, part in enumerate(parts))
    return cast(Stage, checked(STAGES[name], settings, where))
