import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paretrim.errors import InvalidRecipe, TrainingFailed, UnsupportedOperation
from paretrim.stages.prune.patterns import (
    BLOCK_1X4,
    UNSTRUCTURED,
    block_alive,
    block_scores,
    block_shape,
    expand,
    mask_for,
    parse_pattern,
    survivors,
)

shapes = st.one_of(
    st.tuples(st.integers(1, 5), st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 3), st.integers(1, 2)),
)


def scores_of(shape, seed=0, levels=None):
    """Random scores; ``levels`` few values make ties."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator) if levels is None else torch.randint(levels, shape, generator=generator).float()


def blocks(shape):
    """Index lists of every 1x4 block, by the definition."""
    for o in range(shape[0]):
        for start in range(0, shape[1], 4):
            for position in itertools.product(*map(range, shape[2:])):
                yield [(o, i, *position) for i in range(start, min(start + 4, shape[1]))]


def test_parse_reads_the_three_forms():
    assert parse_pattern("unstructured") is UNSTRUCTURED
    assert parse_pattern("1x4") is BLOCK_1X4
    pattern = parse_pattern("3:8")
    assert (pattern.stay, pattern.group, pattern.sparsity, pattern.fixed) == (3, 8, 0.625, True)
    assert UNSTRUCTURED.sparsity is None


@pytest.mark.parametrize("text", ["", "2x4", "4x1", "0:4", "2:", "2:4 ", "-1:4", "channel"])
def test_parse_refuses_other_text(text):
    with pytest.raises(InvalidRecipe, match=f"pattern '{text}' is unknown; write 'unstructured', '1x4' or 'n:m'"):
        parse_pattern(text)


@pytest.mark.parametrize("text", ["4:4", "5:4"])
def test_parse_refuses_a_pattern_that_prunes_nothing(text):
    with pytest.raises(InvalidRecipe, match=r"prunes nothing.*n must be below m"):
        parse_pattern(text)


@given(shapes)
def test_block_scores_are_sums_of_squares_over_the_blocks(shape):
    scores = scores_of(shape)
    expected = [sum(scores[i].double().item() ** 2 for i in block) for block in blocks(shape)]
    result = block_scores(scores, BLOCK_1X4)
    assert tuple(result.shape) == block_shape(shape, BLOCK_1X4)
    # The listed blocks run over kernel positions last, as the tensor [Co, B, kh, kw] does.
    assert result.flatten().tolist() == pytest.approx(expected)


@given(shapes, st.data())
def test_expand_sets_whole_blocks(shape, data):
    block_mask = scores_of(block_shape(shape, BLOCK_1X4), data.draw(st.integers(0, 99)), levels=2).bool()
    expected = torch.zeros(shape, dtype=torch.bool)
    for value, block in zip(block_mask.flatten(), blocks(shape), strict=True):
        for index in block:
            expected[index] = value
    assert torch.equal(expand(block_mask, shape, BLOCK_1X4), expected)
    assert torch.equal(block_alive(expected, BLOCK_1X4), block_mask)


@given(shapes, st.floats(0, 1), st.sampled_from([UNSTRUCTURED, BLOCK_1X4]), st.integers(0, 99))
def test_mask_keeps_exactly_the_count_and_the_best(shape, ratio, pattern, seed):
    scores = scores_of(shape, seed, levels=4)
    ranked = block_scores(scores, pattern)
    keep = ranked.numel() - round(ratio * ranked.numel())
    mask = mask_for(scores, keep, pattern)
    kept = block_alive(mask, pattern)
    assert torch.equal(expand(kept, shape, pattern), mask)
    assert int(kept.sum()) == keep
    if 0 < keep < ranked.numel():
        assert ranked[kept].min() >= ranked[~kept].max()


@given(shapes, st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 8)]), st.integers(0, 99), st.booleans())
def test_n_of_m_matches_brute_force(shape, n_m, seed, pruned):
    n, m = n_m
    pattern = parse_pattern(f"{n}:{m}")
    scores = scores_of(shape, seed, levels=5)
    alive = scores_of(shape, seed + 1, levels=3) > 0 if pruned else torch.ones(shape, dtype=torch.bool)
    expected = torch.zeros(shape, dtype=torch.bool)
    for o in range(shape[0]):
        for position in itertools.product(*map(range, shape[2:])):
            for start in range(0, shape[1], m):
                group = [(o, i, *position) for i in range(start, min(start + m, shape[1])) if alive[(o, i, *position)]]
                size = min(m, shape[1] - start)
                for index in sorted(group, key=lambda i: -scores[i].item())[: math.ceil(n * size / m)]:
                    expected[index] = True
    keep = survivors(alive, pattern)
    assert keep == int(expected.sum())
    assert torch.equal(mask_for(scores, keep, pattern, alive=alive), expected)


@given(st.integers(1, 40), st.integers(2, 16), st.data())
def test_a_short_last_group_keeps_the_share_of_a_whole_one_rounded_up(channels, m, data):
    n = data.draw(st.integers(1, m - 1))
    pattern = parse_pattern(f"{n}:{m}")
    quotas = pattern.quotas(channels).tolist()
    whole, rest = divmod(channels, m)
    assert quotas[:whole] == [n] * whole
    assert len(quotas) == whole + (rest > 0)
    for kept in quotas[whole:]:
        assert 1 <= kept <= min(n, rest)
        assert (kept - 1) * m < n * rest <= kept * m  # the smallest count that is no smaller share
    density = survivors(torch.ones(3, channels, dtype=torch.bool), pattern) / (3 * channels)
    assert n / m <= density < n / m + 1 / channels  # not sparser than n:m, and by less than a weight of each row denser


def test_two_of_four_of_six_channels_is_half_zeros():
    scores = scores_of((5, 6, 3, 3), levels=4)
    pattern = parse_pattern("2:4")
    mask = mask_for(scores, survivors(scores > -1, pattern), pattern)
    assert int(mask.sum()) * 2 == mask.numel()
    assert bool((mask[:, 4:].sum(1) == 1).all())


@given(shapes, st.sampled_from([UNSTRUCTURED, BLOCK_1X4]), st.integers(0, 99))
def test_what_is_dead_stays_dead(shape, pattern, seed):
    scores = scores_of(shape, seed)
    alive = scores_of(shape, seed + 1, levels=2).bool()
    possible = int(block_alive(alive, pattern).sum())
    for keep in {0, possible // 2, possible}:
        mask = mask_for(scores, keep, pattern, alive=alive)
        assert not (mask & ~alive).any()
        assert int(block_alive(mask, pattern).sum()) == keep


def test_dead_weights_do_not_speak_for_their_block():
    scores = torch.tensor([[9.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]])
    alive = torch.tensor([[False, True, True, True, True, True, True, True]])
    assert mask_for(scores, 1, BLOCK_1X4, alive=alive).tolist() == [[False] * 4 + [True] * 4]


def test_sparsity_of_weights_equals_sparsity_of_blocks_only_without_partial_blocks():
    whole = mask_for(scores_of((8, 8)), 4, BLOCK_1X4)
    assert (~whole).float().mean() == 12 / 16
    partial = mask_for(torch.ones(8, 5), 8, BLOCK_1X4)
    assert (~partial).float().mean() == 8 / 40  # half of the blocks, those of one weight


def test_tiny_weights_do_not_underflow_in_block_scores():
    assert (block_scores(torch.full((1, 4), 1e-30), BLOCK_1X4) > 0).all()


def test_half_precision_scores_are_ranked():
    assert mask_for(torch.tensor([[1.0, 3.0, 2.0]], dtype=torch.bfloat16), 1, UNSTRUCTURED).tolist() == [[False, True, False]]


def test_weight_without_input_channels_is_refused():
    with pytest.raises(UnsupportedOperation, match=r"a weight of shape \(3,\) has no input channels"):
        block_scores(torch.ones(3), UNSTRUCTURED)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(TrainingFailed, match="2 of 4 scores are NaN or infinite"):
        block_scores(torch.tensor([[1.0, torch.nan, torch.inf, 0.0]]), BLOCK_1X4)


def test_block_mask_of_another_shape_is_refused():
    with pytest.raises(
        InvalidRecipe, match=r"a block mask of shape \(2, 3\) does not fit a weight of shape \(2, 5\).*blocks \(2, 2\)"
    ):
        expand(torch.ones(2, 3, dtype=torch.bool), (2, 5), BLOCK_1X4)


def test_count_that_contradicts_n_of_m_is_refused():
    with pytest.raises(InvalidRecipe, match=r"pattern '2:4' keeps 4 of the 8 weights of shape \(2, 4\), not 3"):
        mask_for(torch.ones(2, 4), 3, parse_pattern("2:4"))


def test_more_blocks_than_alive_are_refused():
    alive = torch.tensor([[True, False, False]])
    with pytest.raises(
        InvalidRecipe,
        match="cannot keep 2 blocks of pattern 'unstructured': after earlier pruning only 1 of 3 have a weight left",
    ):
        mask_for(torch.ones(1, 3), 2, UNSTRUCTURED, alive=alive)
