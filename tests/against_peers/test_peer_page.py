"""The lines of the comparison with peers, and the page that is made of them."""

import dataclasses

import pytest
from peer_results import OURS, absent, both_sides, latency, module, origin, result

from paretrim.errors import CorruptFile


def test_lines_are_read_as_they_were_and_later_ones_replace_earlier_ones(tmp_path):
    lines, path = module("peer_lines"), tmp_path / "peers.jsonl"
    again = result(correct=9200)
    for line in (result(), absent(), latency(), again, result("torchao-int8")):
        lines.append(path, line)
    assert lines.read(path) == [again, result("torchao-int8"), latency()]  # an absence was replaced too
    with path.open("a") as file:
        file.write('{"kind": "res')  # a crash while writing
    assert len(lines.read(path)) == 3
    lines.append(path, result("onnxruntime-int8"))
    assert len(lines.read(path)) == 4
    assert lines.read(tmp_path / "absent") == []


@pytest.mark.parametrize("text", ["no json", "[1]", '{"kind": "guess"}', '{"kind": "absent"}'])
def test_a_broken_line_is_named(tmp_path, text):
    (tmp_path / "lines").write_text(f"{text}\n")
    with pytest.raises(CorruptFile, match=r"lines', line 1 is no line of peers \(.*kinds are result, absent, latency; restore"):
        module("peer_lines").read(tmp_path / "lines")


def test_the_page_is_what_its_lines_make():
    page = module("peer_page")
    assert page.PAGE.read_text(encoding="utf-8") == page.page_of(module("peer_lines").read(page.RESULTS))


def test_a_row_says_what_was_measured_and_that_nothing_was_timed():
    made = module("peer_page").page_of(both_sides())
    assert "As trained: 91.73 % [91.17, 92.25] by its test images, 1,080,000 bytes as ONNX, latency not timed yet." in made
    assert "| **Paretrim** | 91.61 [91.59, 91.63] | +0.12 | 200,000 | 20.0 | busy | 8 | paretrim | not timed yet |" in made
    assert made.index("**Paretrim**") < made.index("| NNCF |")  # the more accurate one first
    assert "- latency, ms: not timed yet." in made
    assert "- nncf: numpy 2.\n" in made
    assert "- a CPU, 2 cores.\n- Commits: 0123abc.\n" in made


def test_the_page_says_where_a_peer_wins():
    made = module("peer_page").page_of([*both_sides(), latency(), latency("paretrim-int8", 0.1)])
    assert "- accuracy: Paretrim wins, 91.51 % (NNCF) against 91.61 % (Paretrim), difference -0.10 [-0.10, -0.10]." in made
    assert "- bytes: Paretrim wins, 400,000 (NNCF) against 200,000 (Paretrim)." in made
    assert "- CPU seconds: **a peer wins**, 8.0 (NNCF) against 20.0 (Paretrim)." in made
    assert "- lines of code: **a peer wins**, 6 (NNCF) against 8 (Paretrim)." in made
    assert "- latency, ms: Paretrim wins, 0.200 (NNCF) against 0.100 (Paretrim)." in made
    assert "| NNCF | 91.51 [91.49, 91.53] | +0.22 | 400,000 | 8.0 | busy | 6 | openvino | 0.200 [0.190, 0.210] |" in made
    assert "- Not quiet: a fan." in made


def test_a_quick_case_of_ours_that_is_less_accurate_does_not_win():
    quick = result("paretrim-int8-bias", correct=6000, file_bytes=1, cpu_s=0.1, user_lines=1)
    made = module("peer_page").page_of([*both_sides(), quick])
    assert "- CPU seconds: **a peer wins**, 8.0 (NNCF) against 20.0 (Paretrim)." in made
    assert "- lines of code: **a peer wins**, 6 (NNCF) against 8 (Paretrim)." in made


def test_a_difference_that_may_be_chance_is_none():
    lines = [result("paretrim-int8", seed, correct=9150 + 30 * (seed == 1), **OURS) for seed in range(3)]
    made = module("peer_page").page_of([*lines, *(result(seed=seed, correct=9162) for seed in range(3))])
    assert "- accuracy: no difference shown, 91.62 % (NNCF) against 91.60 % (Paretrim), difference +0.02 [" in made
    better = module("peer_page").page_of([*lines, *(result(seed=seed, correct=9300) for seed in range(3))])
    assert "- accuracy: **a peer wins**, 93.00 % (NNCF)" in better
    assert "one draw cannot show a difference" in module("peer_page").page_of([lines[0], result()])
    assert "Only one side has results" in module("peer_page").page_of(lines)
    equal = module("peer_page").page_of([*lines, *(result(seed=seed, **OURS) for seed in range(3))])
    assert "- bytes: equal, 200,000 (NNCF) against 200,000 (Paretrim)." in equal


def test_what_did_not_run_stands_with_its_reason_and_a_time_belongs_to_its_file():
    page = module("peer_page")
    assert "Not run here:\n\n- torchao PT2E: no such version\n" in page.page_of([*both_sides(), absent()])
    old = dataclasses.replace(latency(), file_digest="another file")
    assert "0.200" not in page.page_of([*both_sides(), old])
    assert page.NOTHING in page.page_of([])


def test_wall_time_counts_on_an_idle_machine_only():
    quiet = [dataclasses.replace(line, origin=origin(load=0.1)) for line in both_sides()]
    assert "| 8.0 | 9.0 | 6 | openvino |" in module("peer_page").page_of(quiet)
