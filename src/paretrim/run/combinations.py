"""Methods that are stages and settings put together: a recipe, and no code of their own."""

from __future__ import annotations

from paretrim.method import OURS, Method

METHODS = (
    Method(
        name="distill-then-prune",
        kind="combination",
        source=OURS,
        what="distil first, then prune what was distilled",
        formula="distill -> prune",
        recipe="distill-then-prune",
    ),
    Method(
        name="prune-then-distill",
        kind="combination",
        source=OURS,
        what="prune first, then distil from the dense network under the masks",
        formula="prune -> distill",
        recipe="prune-then-distill",
    ),
    Method(
        name="channels-then-blocks",
        kind="combination",
        source=OURS,
        what="whole channels go first, then 1x4 blocks of those that stay, then INT8",
        formula="prune(channel) -> prune(1x4, cubic) -> quantize",
        recipe="channels-then-blocks",
    ),
    Method(
        name="prune-while-distilling",
        kind="combination",
        source=OURS,
        what="the cubic ramp and the teacher share one loop",
        formula="prune(cubic) + distill",
        recipe="prune-while-distilling",
    ),
    Method(
        name="qat-while-distilling",
        kind="combination",
        source=OURS,
        what="train through the rounding with the dense network as teacher",
        formula="quantize + distill",
        recipe="qat-while-distilling",
    ),
    Method(
        name="quantize-then-distill",
        kind="combination",
        source=OURS,
        what="quantize without training, then distil: only the integers learn",
        formula="quantize(0 epochs) -> distill",
        recipe="quantize-then-distill",
    ),
    Method(
        name="apprentice-c",
        kind="combination",
        source="Mishra & Marr 2018 (Apprentice), arXiv 1711.05852, scheme C",
        what="a trained student, made ternary and tuned at a low rate with the teacher's logits",
        formula="quantize(ternary) + distill(T = 1)",
        recipe="apprentice-c",
    ),
    Method(
        name="hint-two-stages",
        kind="combination",
        source="Romero et al. 2015 (FitNets), arXiv 1412.6550",
        what="the hint alone trains the layers up to it, then softened logits train all",
        formula="distill(hint, no labels) -> distill",
        recipe="hint-two-stages",
    ),
    Method(
        name="crd-simplified",
        kind="combination",
        source=OURS,
        what="CRD with one set of negatives for a batch and an embedding of two layers",
        formula="distill(crd, draw = batch, embedding = mlp)",
        recipe="crd-simplified",
    ),
    Method(
        name="logit-standardisation",
        kind="combination",
        source="Sun et al. 2024, arXiv 2403.01427, algorithm 1",
        what="KD on logits with mean 0 and deviation 1",
        formula="KL of softmax((z - mean z) / (T std z)), teacher against student",
        recipe="logit-standardisation",
    ),
    Method(
        name="label-smoothing",
        kind="combination",
        source="Szegedy et al. 2016, arXiv 1512.00567, section 7",
        what="a share of each label goes to all classes alike; no teacher",
        formula="CE((1 - e) labels + e / K, p)",
        recipe="label-smoothing",
    ),
    Method(
        name="mixed-names",
        kind="combination",
        source=OURS,
        what="named layers, usually the first and the last, keep 8 bits, the others have fewer",
        formula="formats by name",
        recipe="mixed-names",
    ),
)
