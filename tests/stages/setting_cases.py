"""For every stage: the settings that decide what else is read, and other values for every setting."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from paretrim.stages.distill.logits import DecoupledLogits, SoftLogits
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.clipq import Rate
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.mixed import Mixture
from tests.stages.read_settings import BUDGET, FASTER, MANY, NONE, OTHER_TEACHER

POWERS, FLOATS = {"*": Format(grid="powers")}, {"*": Format(grid="float16")}
COSTS = {"left.0": 0.001, "down.0": 1.0, "alone.0": 1.0, "wide.0": 1.0, "stem.0": 1.0, "head": 1.0}
PATTERNS = ("unstructured", "1x4", "2:4", "channel")
SMOOTHER = replace(BUDGET, label_smoothing=0.5)


@dataclass(frozen=True)
class With:
    """A value that needs other values beside it to make a difference."""

    value: object
    beside: Mapping[str, object]


def _every(**choices):
    """Every combination of these values."""
    found = [{}]
    for name, values in choices.items():
        found = [{**one, name: value} for one in found for value in values]
    return found


CONTEXTS = {
    "prune": [
        *_every(pattern=PATTERNS, schedule=("one_shot", "cubic"), sparsity=(0.5,)),
        *_every(pattern=("unstructured", "1x4"), sparsity=(0.5,), score=("snip",)),
        *_every(pattern=("1x4", "2:4"), sparsity=(0.5,), allocation=("cost",)),
        *_every(pattern=("1x4",), sparsity=(0.5,), allocation=("sensitivity",)),
        {"schedule": "cubic", "sparsity": 0.5, "score": "synflow", "budget": NONE},
    ],
    "rigl": [*_every(pattern=("unstructured", "1x4"), every=(1,)), {"drop": 0.0}, {"until": 0.0}, {"budget": NONE}],
    "acdc": [
        *_every(pattern=("unstructured", "1x4", "2:4"), sparsity=(0.5,), phase=(0.2,), budget=(MANY,)),
        {"sparsity": 0.5, "warmup": 0.5, "last_dense": 0.3, "last_sparse": 0.2, "budget": MANY},
        {"sparsity": 0.5, "budget": NONE},
    ],
    "straight_through": [
        *_every(pattern=("unstructured", "1x4"), sparsity=(0.5,), every=(1,), start=(0.0, 0.2), budget=(MANY,)),
        {"pattern": "2:4", "sparsity": 0.5, "every": 1, "budget": MANY},
        {"sparsity": 0.5, "start": 0.0, "end": 0.0, "freeze": 0.0},
        {"sparsity": 0.5, "budget": NONE},
    ],
    "movement": [
        *_every(pattern=("unstructured", "1x4"), selection=("hard",), sparsity=(0.5,)),
        *_every(pattern=("unstructured", "1x4"), selection=("soft",), threshold=(0.495,), score_rate=(0.01,), budget=(MANY,)),
        {"sparsity": 0.5, "budget": NONE},
    ],
    "lottery": _every(pattern=("unstructured", "1x4"), rewind=("weights", "learning_rate")),
    "gsm": [*_every(pattern=("unstructured", "1x4")), {"budget": NONE}],
    "thinet": [{}, {"coupled": True}, {"coupled": True, "budget": NONE}],
    "thin": [{}],
    "gates": [{"drop": 0.95}, {"sparsity": 0.25}, {"drop": 0.95, "budget": NONE}],
    "finetune": [{}],
    "clipq": [{}, {"trials": 4}, {"rates": {"head": Rate(0.1, 8)}}],
    "distill": [
        {},
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"decay": 0.5},
        {"alpha": 1.0, "decay": 0.5},
        {"criteria": (DecoupledLogits(),)},
        {"criteria": (DecoupledLogits(),), "labels": 0.0},
        {"budget": NONE},
    ],
    "quantize": [
        {},
        {"calibrator": "percentile"},
        {"weight_calibrator": "percentile"},
        {"activations": "float32"},
        {"activations": "float32", "weight_calibrator": "mse"},
        {"adjust": ("smooth", "adaround"), "weight_bits": 4, "budget": NONE, "rounding_steps": 20},
        # Not with formats, a price of bits or a mixture: it depends on the network's layers what they leave to read.
    ],
    "together": [{"parts": (Prune(sparsity=0.5),)}],
}
"""What is changed one setting at a time, by stage. The budget is BUDGET unless it says another."""

SELECTION = {
    "pattern": ("unstructured", "1x4"),
    "first": (True,),
    "last": (True,),
    "depthwise": (True,),
    "layers": (("wide.0", "down.0", "left.0", "stem.0"), ("wide.0",)),
    "ignore": (("wide.0",),),
    "budget": (FASTER,),
}

OTHERS = {
    "prune": {
        **SELECTION,
        "sparsity": (0.25,),
        "allocation": ("uniform", "erk"),
        "schedule": ("cubic", "one_shot"),
        "start": (0.3,),
        "end": (0.95,),
        "multiple_of": (4,),
        "regroup": (True,),
        "costs": (COSTS,),
        "score": ("fisher", "l1"),
        "rounds": (3,),
        "compensate": (True,),
    },
    "rigl": {
        **SELECTION,
        "sparsity": (0.5,),
        "allocation": ("uniform",),
        "score": ("magnitude",),
        "every": (2,),
        "drop": (0.9, With(0.9, {"every": 1})),
        "until": (0.4, With(0.4, {"every": 1})),
    },
    "acdc": {
        **SELECTION,
        "sparsity": (0.25,),
        "allocation": ("uniform",),
        "score": ("random",),
        "warmup": (0.4, 0.3),
        "phase": (0.1,),
        "last_dense": (0.5,),
        "last_sparse": (0.5,),
    },
    "straight_through": {
        **SELECTION,
        "sparsity": (0.25,),
        "allocation": ("uniform",),
        "every": (2,),
        "start": (0.3, 0.0),
        "end": (0.7, 0.3),
        "freeze": (0.5, 0.9),
        "decay": (10.0,),
    },
    "movement": {
        **SELECTION,
        "selection": ("soft", "hard"),
        "sparsity": (0.25,),
        "threshold": (0.4,),
        "penalty": (5.0,),
        "allocation": ("uniform",),
        "score_rate": (0.2,),
        "start": (0.4,),
        "end": (0.95,),
        "every": (5,),
    },
    "lottery": {
        **SELECTION,
        "share": (0.5,),
        "rewind": ("learning_rate", "weights"),
        "epoch": (1,),
        "allocation": ("uniform",),
        "score": ("random",),
    },
    "gsm": {**SELECTION, "sparsity": (0.5,)},
    "thinet": {"sparsity": (0.25,), "until": (0.3,), "multiple_of": (4,), "coupled": (True, False), "budget": (FASTER,)},
    "thin": {"sparsity": (0.25,), "multiple_of": (8,), "budget": (FASTER,)},
    "gates": {
        "weight": (10.0,),
        "rate": (1000.0,),
        "drop": (0.3,),
        "sparsity": (0.5,),
        "multiple_of": (4,),
        "budget": (FASTER,),
    },
    "finetune": {"budget": (FASTER,)},
    "clipq": {
        "share": (0.6,),
        "bits": (2,),
        "rates": ({"down.0": Rate(0.5, 2)},),
        "trials": (3, 1),
        "weight": (0.0, 100.0),
        "budget": (FASTER,),
    },
    "distill": {
        "temperature": (1.0,),
        "alpha": (0.5,),
        "criteria": ((SoftLogits(weight=2.0),),),
        "labels": (0.5,),
        "teacher": (OTHER_TEACHER,),
        "decay": (0.9,),
        "budget": (FASTER,),
    },
    "quantize": {
        "weight_bits": (4,),
        "scales": ("observed",),
        "calibrator": ("minmax",),
        "percentile": (90.0,),
        "rate": (0.5,),
        "formats": ({"head": Format(bits=3)},),
        "activations": ("clipped", "float32"),
        "mixed": (Mixture(by="divergence", bits=4.5),),
        "weight_calibrator": ("minmax",),
        "adjust": (("equalize",),),
        "smoothing": (0.9,),
        "rounding_steps": (40,),
        "portions": ((0.1, 1.0),),
        "activation_bits": (4,),
        "budget": (FASTER,),
    },
    "together": {"parts": ((Prune(sparsity=0.25),),), "budget": (FASTER,)},
}
"""Other values of every setting. A new setting needs one here, and a stage that reads it."""

CRITERIA = {
    "kd": ([{}], {"weight": 2.0, "temperature": 1.0, "standardise": True}),
    "dkd": (
        [{}, {"alpha": 0.0, "beta": 0.0}],
        {"weight": 2.0, "alpha": 3.0, "beta": 2.0, "temperature": 1.0, "warmup": 0.9, "standardise": True},
    ),
    "hint": ([{"at": "down"}], {"at": "left", "weight": 1.0, "teacher_at": "alone", "regressor": "pool"}),
    "mimic": ([{"at": "down", "step": 0.1}], {"at": "left", "step": 0.5, "weight": 2.0, "teacher_at": "alone"}),
    "attention": ([{"at": ("down",)}], {"at": ("left",), "weight": 2.0, "teacher_at": ("alone",)}),
    "rkd": (
        [{}, {"distance": 0.0, "angle": 0.0}],
        {"weight": 2.0, "distance": 1.0, "angle": 1.0, "at": "down", "teacher_at": "down"},
    ),
    "crd": (
        [{"negatives": 8}],
        {
            "weight": 2.0,
            "negatives": 4,
            "dimensions": 8,
            "temperature": 0.5,
            "draw": "batch",
            "embedding": "mlp",
            "at": "down",
            "teacher_at": "down",
        },
    ),
    "review": (
        [{"at": ("left", "down")}],
        {"at": ("down", "alone"), "weight": 1.0, "warmup": 0.9, "channels": 4, "teacher_at": ("left", "alone")},
    ),
    "joint": ([{}], {"weight": 2.0, "alpha": 0.1, "temperature": 2.0}),
}
"""Settings of the criteria of ``distill``, and another value of each; they are also tried with a weight of 0."""

BUDGETS = [
    *_every(optimizer=("sgd", "adamw", "muon"), schedule=("cosine", "linear", "step", "constant")),
    {"momentum": 0.0},
    {"optimizer": "muon", "momentum": 0.0},
    {"warmup": 1.0},
    {"schedule": "constant", "warmup": 0.5},
    {"epochs": 0},
]

OTHER_BUDGETS = {
    "epochs": 2,
    "batch_size": 24,
    "optimizer": "muon",
    "learning_rate": 0.02,
    "momentum": 0.5,
    "nesterov": False,
    "weight_decay": 0.1,
    "schedule": "linear",
    "warmup": 0.75,
    "milestones": (0.25,),
    "label_smoothing": 0.3,
    "clip_norm": 0.01,
    "freeze_batchnorm": 0.3,
    "batchnorm_bias_rate": 8.0,
    "skip": 0.5,
    "lookahead": 2,
    "muon_rate": 0.2,
}
