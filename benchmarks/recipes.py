"""Every recipe of recipes/methods as it is written, with its plain baselines: one line of JSON for each recipe and seed.

    python benchmarks/recipes.py --out results/recipes.jsonl [--seeds 3] [--folder FOLDER] [--only NAME ...]

Each recipe is carried out as ``paretrim run`` does it, but nothing is timed, and only the native runtime judges. A line has the
accuracy of the ``.trim`` file on the test images, its bytes and its share of zeros; the same of the dense network, of the dense
network in 8 bits without training (``int8``), and of the plain baseline of ``recipe_baselines.py``. Recipes with the same
network, data, dense training and seed share their dense networks in the folder.

Lines whose recipe and baselines have not changed are kept. All recipes of a seed come before those of the next, so that there are
complete lines at any time. About 25 minutes a seed on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from page_parts import Line, number, read
from recipe_baselines import baseline_of, companions, epochs_of
from torch import Tensor

from paretrim.digest import digest_of
from paretrim.files import write_atomically
from paretrim.graph.entropy import summarize_weights
from paretrim.lock import hold
from paretrim.run.delivery import Experiment
from paretrim.run.judge import decisions
from paretrim.run.progress import silent
from paretrim.run.recipe import Recipe, read_recipe
from paretrim.run.run import after_all_stages, carry_out, open_recipe, with_dense
from paretrim.runtime import load
from paretrim.train.budget import Budget
from paretrim.train.checkpoint import save_state

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "recipes" / "methods"
TEACHER = Budget(epochs=30, batch_size=32, learning_rate=0.05)
"""Training of a teacher whose weights the recipe expects from the user; with fewer steps so deep a network learns little."""
TEACHER_SEED = 1000
NORMS = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
"""What torch calls the tensors of BatchNorm."""

Key = tuple[str, int]
"""Name of the recipe and seed."""


def recipes(seed: int) -> Iterator[tuple[str, Recipe]]:
    """Every recipe by name, with this seed."""
    for path in sorted(RECIPES.glob("*.toml")):
        yield path.stem, replace(read_recipe(path), seed=seed)


def digest(recipe: Recipe) -> str:
    """What decides a line: the recipe and its baselines."""
    return digest_of([recipe.digest, *(one.digest for one in companions(recipe).values())])


def measured(name: str, recipe: Recipe, workshop: Workshop) -> Line:
    """The line of a recipe."""
    line = {
        "recipe": name,
        "seed": recipe.seed,
        "digest": digest(recipe),
        "epochs": epochs_of(recipe),
        **workshop.facts(recipe),
        "plain": baseline_of(recipe).name,
    }
    for prefix, other in companions(recipe).items():
        line |= {f"{prefix}_{key}": value for key, value in workshop.facts(other).items()}
    return line


@dataclass(frozen=True)
class Workshop:
    """A folder in which recipes are carried out; nothing in it is made twice, and no network is captured twice."""

    folder: Path
    opened: dict[str, Experiment] = field(default_factory=dict)
    known: dict[str, Line] = field(default_factory=dict)

    def facts(self, recipe: Recipe) -> Line:
        """Accuracy of the file of a recipe's last stage on the test images, its bytes and its share of zeros."""
        if recipe.digest not in self.known:
            experiment = self.experiment(self.with_weights(recipe))
            candidates = after_all_stages(recipe.stages, recipe.label)
            (file,) = carry_out(experiment, self.folder, candidates, records=None, watcher=silent()).deployed
            test = experiment.test
            assert test is not None
            right = decisions(load(file.trim, measure=False), test.images) == test.labels
            layers = summarize_weights(file.graph)
            self.known[recipe.digest] = {
                "accuracy": float(right.mean()),
                "bytes": file.trim.stat().st_size,
                "zeros": round(sum(layer.zeros for layer in layers) / sum(layer.weights for layer in layers), 6),
            }
        return self.known[recipe.digest]

    def experiment(self, recipe: Recipe) -> Experiment:
        """The recipe opened; recipes without teachers that begin alike share data and network."""
        if recipe.teacher or recipe.teachers:
            return open_recipe(recipe, silent())
        bare = replace(recipe, stages=(), dense=None, label="")
        if bare.digest not in self.opened:
            self.opened[bare.digest] = open_recipe(bare, silent())
        return replace(self.opened[bare.digest], recipe=recipe)

    def with_weights(self, recipe: Recipe) -> Recipe:
        """The recipe with weights for a teacher that users bring: those of a network trained here, from another seed."""
        if recipe.teacher is None or recipe.teacher.weights is None:
            return recipe
        path = self.folder / recipe.teacher.weights
        if not path.exists():
            fresh = replace(recipe.teacher, weights=None)
            plain = replace(recipe, model=fresh, dense=TEACHER, stages=(), teacher=None, teachers=(), seed=TEACHER_SEED)
            trained = with_dense(self.experiment(plain), self.folder, silent())
            save_state(path, as_torch_names_them(trained.start.network.state_dict()), {})
        return replace(recipe, teacher=replace(recipe.teacher, weights=str(path)))


def as_torch_names_them(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a captured network under the names of the module that it was captured from."""
    found = {}
    for name, tensor in tensors.items():
        path, _, last = name.removeprefix("layers.").rpartition(".")
        found[f"{path.replace('/', '.')}.{NORMS.get(last, last)}"] = tensor
    return found


def key_of(line: Line) -> Key:
    """Name and seed of a line."""
    return str(line["recipe"]), int(number(line, "seed"))


def fresh(lines: Sequence[Line], wanted: Mapping[Key, Recipe]) -> dict[Key, Line]:
    """The lines of recipes as they are now."""
    return {key_of(line): line for line in lines if key_of(line) in wanted and line["digest"] == digest(wanted[key_of(line)])}


def main() -> None:
    """Measure every recipe and seed that has no line yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--only", nargs="*", help="names of recipes, in the order in which to run them; all if left out")
    given = parser.parse_args()
    wanted = {(name, seed): recipe for seed in range(given.seeds) for name, recipe in recipes(seed)}
    done = fresh(read(given.out), wanted) if given.out.exists() else {}
    given.folder.mkdir(parents=True, exist_ok=True)
    workshop = Workshop(given.folder)
    with hold(given.folder):
        chosen = given.only or [name for name, _ in recipes(0)]
        for key in ((name, seed) for seed in range(given.seeds) for name in chosen):
            if key in done:
                continue
            done[key] = measured(key[0], wanted[key], workshop)
            ordered = (done[key] for key in wanted if key in done)
            write_atomically(given.out, "".join(json.dumps(line) + "\n" for line in ordered).encode())


if __name__ == "__main__":
    main()
