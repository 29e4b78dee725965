"""Files of a run folder that are damaged: what can be found again is, and nothing ends in an error after the work is done."""

import json
import shutil

import pytest

from paretrim.data.load import load
from paretrim.errors import CorruptFile
from paretrim.results import store
from paretrim.results.outcome import FORMAT
from paretrim.results.run_folder import CHOICE, INDEX, SENSITIVITY, STORE, TIMINGS, choice_of, distributions, index_of
from paretrim.run.candidate import kept_candidate
from paretrim.run.pipeline import finished_dense, finished_stages, run_stages, train_dense
from paretrim.run.run import run_recipe
from paretrim.run.start import start_from
from paretrim.train.budget import Budget

CANDIDATE = "candidate.safetensors"
DAMAGES = {
    "empty": lambda _: b"",
    "half": lambda content: content[: len(content) // 2],
    "one bit": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "zeros": lambda content: bytes(len(content)),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tmp_path_factory.mktemp("made") / "run"


@pytest.fixture
def folder(recipe, made, tmp_path):
    """A copy of a finished run."""
    if not made.exists():
        run_recipe(recipe, made)
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def candidates(folder):
    return sorted((folder / "stages").rglob(CANDIDATE), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_candidate_is_made_again(recipe, folder, which, damage):
    start = start_from(recipe, load(recipe.data))[0]
    whole = [path.read_bytes() for path in candidates(folder)]
    path = candidates(folder)[which]
    path.write_bytes(DAMAGES[damage](whole[which]))
    with pytest.warns(UserWarning, match=rf"{path.parent.name}/candidate\.safetensors' is damaged, so what made it runs again"):
        assert finished_stages(start, recipe.stages, folder)[0] == which
    with pytest.warns(UserWarning, match="is damaged"):
        again = run_stages(start, recipe.stages, folder)
    assert finished_stages(start, recipe.stages, folder)[0] == 2
    assert path.read_bytes()[-500:] == whole[which][-500:]  # weights; the seconds it took come before them
    assert [one.history[-1].name for one in again[1:]] == ["prune", "quantize"]


def test_a_damaged_dense_network_is_trained_again(recipe, tmp_path):
    start = start_from(recipe, load(recipe.data))[0]
    budget = Budget(epochs=1)
    first = train_dense(start, budget, tmp_path)
    early = first.early(0)
    for path in candidates(tmp_path):
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged"):
        assert finished_dense(start, budget, tmp_path) is None
    with pytest.warns(UserWarning, match="is damaged"):
        second = train_dense(start, budget, tmp_path)
    with pytest.warns(UserWarning, match="is damaged"):
        assert _equal(second.early(0), early)
    assert _equal(second.network, first.network)


def _equal(first, second):
    return all(bool((tensor == second.state_dict()[name]).all()) for name, tensor in first.state_dict().items())


def test_a_candidate_that_may_not_be_read_is_left_alone(folder):
    path = candidates(folder)[0]
    path.unlink()
    path.mkdir()
    with pytest.raises(CorruptFile, match=r"candidate\.safetensors' cannot be read: .*; give the path of a candidate"):
        kept_candidate(path)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 1}', b"\xff\xfe", b"[]", b"NaN", b"[" * 100_000])
def test_damaged_lines_are_set_aside_and_found_again(recipe, folder, damage):
    path = folder / STORE
    first, second, third = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join((first, damage, third, b"")))
    with pytest.warns(UserWarning, match=r"outcomes\.jsonl': a line was damaged and is now in 'outcomes\.jsonl\.damaged'"):
        found = run_recipe(recipe, folder)
    assert (folder / f"{STORE}.damaged").read_bytes() == damage + b"\n"
    assert {one.label for one in store.read(path)} == {one.label for one in found}
    assert len(store.read(path)) == 3
    said, again = json.loads(second), json.loads(path.read_bytes().splitlines()[-1])
    assert {key for key in said if said[key] != again[key]} <= {"created", "stages"}


def test_several_lines_are_set_aside_one_after_another(recipe, folder):
    path = folder / STORE
    path.write_bytes(b"one\ntwo\n" + path.read_bytes() + b'{"torn":')
    assert (store.set_aside(path), store.set_aside(path)) == (2, 0)
    path.write_bytes(path.read_bytes() + b"\nthree\n")
    with pytest.warns(UserWarning, match=r"2 lines were damaged and are now in"):
        run_recipe(recipe, folder)
    assert (folder / f"{STORE}.damaged").read_bytes() == b'one\ntwo\n{"torn":\nthree\n'


def test_lines_of_a_newer_version_are_left_alone(recipe, folder):
    path = folder / STORE
    newer = json.dumps({"format": FORMAT + 1}).encode() + b"\n"
    path.write_bytes(path.read_bytes() + newer)
    with pytest.raises(CorruptFile, match=rf"has format {FORMAT + 1} and this version of paretrim reads up to {FORMAT}; install"):
        run_recipe(recipe, folder)
    assert path.read_bytes().endswith(newer)
    assert store.set_aside(folder / "none.jsonl") == 0


def test_the_page_does_without_damaged_files_beside_the_outcomes(recipe, folder):
    (folder / SENSITIVITY).write_text("[{}")
    (folder / TIMINGS).mkdir()
    (folder / TIMINGS / "paretrim-1.npz").write_bytes(b"PK")
    with (
        pytest.warns(
            UserWarning, match=r"sensitivity\.json' cannot be read .*, so the page does without it; to have it again, run"
        ),
        pytest.warns(UserWarning, match=r"the times in it are left out: .*paretrim-1\.npz' is not a file of raw latency"),
    ):
        run_recipe(recipe, folder)
    (folder / CHOICE).write_text("{}")
    with pytest.warns(
        UserWarning, match=r"choice\.json' cannot be read \('targets'\), so the page does without it; to have it aga"
    ):
        assert choice_of(folder) is None
    with pytest.warns(UserWarning, match="measure again"):
        assert distributions(folder) == {}


def test_an_index_that_lists_nothing_is_damaged(folder):
    (folder / INDEX).write_text("[]")
    with pytest.raises(
        CorruptFile, match=r"index\.json' cannot be read \(it lists nothing\); run the command that made the folder"
    ):
        index_of(folder)
