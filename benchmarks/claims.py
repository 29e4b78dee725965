"""The table of claims in docs/studies/README.md, generated only from the lines in results/.

python benchmarks/claims.py

The claims are from the papers, and our own; the verdicts are ours (``claim_verdicts.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from claim_verdicts import (
    ORDERS,
    PQD,
    ROOT,
    Verdict,
    arm_beats,
    blocks_beat_single_weights,
    channels_against_weights,
    channels_are_fast,
    deep_compression,
    distillation_makes_up,
    int8_is_the_speed,
    int8_without_training,
    losses_beat_kd,
    mixed_by_variance,
    on_digits,
    order,
    own_setting,
    pruning_last_loses,
    quantized_training,
    taught,
    turned,
    unmeasured,
    zeros_alone_are_no_speed,
)
from page_parts import with_part

PAGE = ROOT / "docs" / "studies" / "README.md"
BEGIN = "<!-- From here to the end marker: python benchmarks/claims.py -->"
END = "<!-- end -->"
PAPERS = {
    "PQD": "Prune-Quantize-Distill (arXiv 2604.04988)",
    "review": "the review of joint optimization methods",
    "trade-offs": "the study of trade-offs between techniques",
    "Paretrim": "what this project claims itself",
}


@dataclass(frozen=True)
class Claim:
    """A claim of one of the papers or of our own, and the verdict of our results."""

    paper: str
    text: str
    verdict: Callable[[], Verdict]


CLAIMS = (
    Claim("PQD", "INT8 gives most of the run-time gain", int8_is_the_speed),
    Claim("PQD", "single zeros alone do not speed up a usual CPU runtime", zeros_alone_are_no_speed),
    Claim("PQD", "prune, quantize, distill is the best order (CIFAR-10, 5 epochs: undertrained)", lambda: order(ORDERS)),
    Claim("PQD", "prune, quantize, distill is the best order (digits)", lambda: order("orders-digits")),
    Claim("PQD", "pruning last costs accuracy", pruning_last_loses),
    Claim("PQD", "pruning before quantizing is better than after", lambda: arm_beats(ORDERS, PQD, "quantize prune distill")),
    Claim("PQD", "distillation last restores accuracy", lambda: arm_beats(ORDERS, PQD, "prune distill quantize")),
    Claim("PQD", "ResNet-18 with ImageNet stem reaches 79.62 %, 6.74 MB and 1.00 ms", own_setting),
    Claim("trade-offs", "at equal sparsity single weights cost less accuracy than channels", channels_against_weights),
    Claim("trade-offs", "pruned channels speed up a usual CPU runtime", channels_are_fast),
    Claim("trade-offs", "INT8 without training costs 3.8 points", int8_without_training),
    Claim("trade-offs", "training in INT8 costs more than INT8 without training", quantized_training),
    Claim(
        "trade-offs",
        "hints and DKD beat softened logits (after pruning, 3 short epochs)",
        lambda: losses_beat_kd(("hint", "dkd")),
    ),
    Claim(
        "trade-offs", "CRD falls behind softened logits (after pruning, 3 short epochs)", lambda: turned(losses_beat_kd(("crd",)))
    ),
    Claim(
        "trade-offs",
        "softened logits beat labels, plain and smoothed (small VGG-11 from nothing, 3 epochs)",
        lambda: taught((("kd", "labels"), ("kd", "smooth"))),
    ),
    Claim(
        "trade-offs",
        "hints and DKD beat softened logits (small VGG-11 from nothing, 3 epochs)",
        lambda: taught((("hint", "kd"), ("hint-first kd", "kd"), ("dkd", "kd"))),
    ),
    Claim(
        "trade-offs",
        "CRD falls behind softened logits (small VGG-11 from nothing, 3 epochs)",
        lambda: taught((("kd", "crd-simple"),)),
    ),
    Claim(
        "trade-offs",
        "the 99.9 percentile recovers the loss of INT8",
        unmeasured("INT8 loses nothing here, so there is nothing to recover"),
    ),
    Claim("trade-offs", "mixed precision by variance beats INT8", mixed_by_variance),
    Claim("review", "joint training beats one stage after the other", lambda: arm_beats(ORDERS, "prune+quantize+distill", PQD)),
    Claim(
        "review",
        "NISP finds better channels than weight norms",
        lambda: on_digits("channels by NISP", "channels by L2", "channel", 0.8),
    ),
    Claim(
        "review",
        "movement scores beat magnitude in blocks",
        lambda: on_digits("movement, soft", "magnitude, one shot", "1x4", 0.9),
    ),
    Claim("review", "distillation compensates for pruning up to 30 %", distillation_makes_up),
    Claim("review", "Deep Compression: 35 times smaller at no loss", deep_compression),
    Claim(
        "review",
        "a plain smaller network trained equally long beats pruned channels (ThinResNet)",
        lambda: on_digits("plain smaller network, from scratch", "channels by L2", "channel", 0.8),
    ),
    Claim(
        "Paretrim",
        "zeros in 1x4 blocks are faster at higher accuracy than single zeros (ResNet-20)",
        lambda: blocks_beat_single_weights("resnet20"),
    ),
    Claim(
        "Paretrim",
        "zeros in 1x4 blocks are faster at higher accuracy than single zeros (ResNet-56)",
        lambda: blocks_beat_single_weights("resnet56"),
    ),
)


def table() -> str:
    """Every claim with its verdict, the figures and a link to their page."""
    rows = ["| paper | claim | verdict | our results |", "|---|---|---|---|"]
    for claim in CLAIMS:
        found = claim.verdict()
        said = f"[{found.sentence}]({found.page}.md)" if found.page else found.sentence
        rows.append(f"| {claim.paper} | {claim.text} | **{found.word}** | {said} |")
    return "\n".join([*rows, "", *(f"{short}: {name}.  " for short, name in PAPERS.items())])


def page_of(page: str) -> str:
    """The page, with the part between its markers replaced."""
    return with_part(page, BEGIN, END, table())


if __name__ == "__main__":
    PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
