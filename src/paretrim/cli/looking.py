"""``--inside`` of commands that train: a page that compares the internals of the first network and the chosen one."""

from __future__ import annotations

from pathlib import Path

from paretrim.errors import InvalidRecipe
from paretrim.report import inside as page
from paretrim.results.comparison import Comparison
from paretrim.results.run_folder import (
    INSIDE,
    changes_in,
    choice_of,
    commands_of,
    delivered_by,
    graph_file_in,
    index_of,
)
from paretrim.run.delivery import Experiment
from paretrim.run.inside import look_into_files
from paretrim.run.recipe import Recipe
from paretrim.run.records import write_page
from paretrim.train.task import CLASSIFICATION
from paretrim.train.tasks import task_named


def require_classes(recipe: Recipe) -> None:
    """Refuse ``--inside`` for tasks without classes, before anything trains.

    Raises:
        InvalidRecipe: the task is not classification.
    """
    if task_named(recipe.task) != CLASSIFICATION:
        raise InvalidRecipe(f"--inside needs a classifier, and the task is '{recipe.task}'; leave out --inside")


def look_into(folder: Path, experiment: Experiment) -> None:
    """Write the page that compares a run folder's first network with the chosen or last one, and link it in the report."""
    entries = index_of(folder)
    changes, choice = changes_in(folder), choice_of(folder)
    labels = [str(entry["label"]) for entry in entries]
    last = labels.index(choice.label) if choice is not None and choice.label in labels else len(labels) - 1
    found: Comparison | None = changes.get(labels[last])
    test = experiment.test
    if found is None or test is None:
        return  # the first network is the only one, or the chosen one
    files = tuple(graph_file_in(folder / str(entries[at]["folder"])) for at in (0, last))
    inside = look_into_files((files[0], files[1]), (test.images, test.images), test.labels, first_shown=found.worse)
    page.write(folder / INSIDE, (labels[0], labels[last]), found, inside)
    write_page(delivered_by(folder), folder, reproduce=commands_of(folder), choice=choice)
