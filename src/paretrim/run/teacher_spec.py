"""One of several teachers, as a recipe names it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SkipValidation, StrictBool

from paretrim.errors import InvalidRecipe
from paretrim.models.spec import ModelSpec
from paretrim.settings import settings
from paretrim.stages.stage import Stage
from paretrim.train.budget import AtLeastOne, Budget, Count, Fraction, Positive
from paretrim.visible import brief

Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]


@settings()
class TeacherSpec:
    """A teacher: a network with weights, or one that is trained before the stages begin; then what is done to it.

    Attributes:
        name: what a distill stage calls it (``teacher = "..."``).
        network: a catalog name or ``package.module:factory``; left out, it is the recipe's dense network as it is trained.
        weights: a file to start from.
        dense: how it is trained on the recipe's data; left out, it is taken as it is.
        stages: what is done to it then, for instance ``quantize``.
        weight: its share in the mean of all teachers.
        seed: of its initialisation and training; the recipe's, if left out.
        crop_padding: its own augmentation, as in ``[data]``; the recipe's, if left out.
        flip: whether half of its training images are mirrored.
        cutout: side in pixels of the square that is erased from its training images.
        jitter: how much brightness, contrast and saturation of its training images vary, in [0, 1].
        top: how many of its largest probabilities are stored for each image; all logits, if left out.
        store: a folder for these, which several runs may share; that of the run, if left out.

    Raises:
        InvalidRecipe: settings that do not go together.
    """

    name: Annotated[str, Field(min_length=1)]
    network: str = ""
    weights: str | None = None
    dense: Budget | None = None
    stages: SkipValidation[tuple[Stage, ...]] = ()
    weight: Positive = 1.0
    seed: Seed | None = None
    crop_padding: Count | None = None
    flip: StrictBool | Literal["alternating"] | None = None
    cutout: Count | None = None
    jitter: Fraction | None = None
    top: AtLeastOne | None = None
    store: str = ""

    def __post_init__(self) -> None:
        if not self.name.isprintable() or "/" in self.name or "\\" in self.name or self.name.startswith("."):
            raise InvalidRecipe(
                f"teacher name {brief(self.name)} is also used as the name of a folder; write letters, digits and dashes"
            )
        if self.network:
            self.model()
        else:
            given = [name for name, value in self._needs_a_network() if value is not None]
            if given:
                raise InvalidRecipe(
                    f"teacher '{self.name}' has {given[0]} but no network, so it is the recipe's dense network as it is trained "
                    f"there; leave {given[0]} out, or name a network"
                )
        if self.dense is None and any(value is not None for value in self.augmentation().values()):
            raise InvalidRecipe(
                f"teacher '{self.name}' has augmentation of its own but is not trained; give it a dense budget, or leave the "
                "augmentation out"
            )
        if self.store and self.top is None:
            raise InvalidRecipe(
                f"teacher '{self.name}' has a store but no top; set top, the number of probabilities stored for each image"
            )

    def model(self) -> ModelSpec:
        """Its network."""
        return ModelSpec(self.network, self.weights)

    def augmentation(self) -> dict[str, object]:
        """Its augmentation settings; None for those of the recipe."""
        return {"crop_padding": self.crop_padding, "flip": self.flip, "cutout": self.cutout, "jitter": self.jitter}

    def _needs_a_network(self) -> tuple[tuple[str, object], ...]:
        return ("weights", self.weights), ("dense", self.dense), ("seed", self.seed)


def check_names(teachers: tuple[TeacherSpec, ...], alone: ModelSpec | None) -> None:
    """Refuse two teachers of one name, and several beside the one of ``[teacher]``.

    Raises:
        InvalidRecipe: there are.
    """
    if alone is not None and teachers:
        raise InvalidRecipe("the recipe has both [teacher] and [[teachers]]; move the one teacher into [[teachers]]")
    names = [one.name for one in teachers]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRecipe(f"two teachers are called '{name}'; give each a name of its own")
