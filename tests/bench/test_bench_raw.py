import io
import json
import zipfile

import numpy as np
import pytest
from bench_sessions import noisy, session
from hypothesis import given, settings
from hypothesis import strategies as st

from paretrim.bench.raw import load_session, save_session
from paretrim.bench.statistics import summarize
from paretrim.errors import CorruptFile


def make(seed=0, processes=2, rounds=30):
    stream = np.random.default_rng(seed)
    return session(
        {
            "slow": noisy(stream, 1e6, processes=processes, rounds=rounds),
            "fäst": noisy(stream, 5e5, processes=processes, rounds=rounds),
        }
    )


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "session.npz"
    save_session(make(), path)
    return path


def rewrite(path, change):
    """Change the members of a saved session, a dictionary of name -> bytes, and write it again with right checksums."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def npy(array, version=(1, 0)):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), version=version, allow_pickle=True)
    return buffer.getvalue()


def edit_text(path, change):
    def members(content):
        text = json.loads(np.load(io.BytesIO(content["session.npy"])).tobytes())
        change(text)
        content["session.npy"] = npy(np.frombuffer(json.dumps(text).encode(), np.uint8))

    rewrite(path, members)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 60))
def test_a_session_round_trips(tmp_path_factory, seed, processes, rounds):
    path = tmp_path_factory.mktemp("raw") / "session.npz"
    one = make(seed, processes, rounds)
    save_session(one, path)
    assert load_session(path) == one
    assert summarize(load_session(path), resamples=20) == summarize(one, resamples=20)


def test_the_same_session_gives_the_same_bytes(tmp_path, saved):
    again = tmp_path / "again.npz"
    save_session(load_session(saved), again)
    assert again.read_bytes() == saved.read_bytes()


def test_numpy_reads_the_samples_without_paretrim(saved):
    with np.load(saved, allow_pickle=False) as arrays:
        assert arrays["samples_ns"].shape == (3, 2, 30)
        assert json.loads(arrays["session"].tobytes())["baseline"] == "slow"


def test_every_truncation_is_detected(saved, tmp_path):
    content = saved.read_bytes()
    cut = tmp_path / "cut.npz"
    for length in range(0, len(content), 97):
        cut.write_bytes(content[:length])
        with pytest.raises(CorruptFile, match=r"cut\.npz' is not a file of raw latency samples"):
            load_session(cut)


def test_no_flipped_bit_is_another_kind_of_error_or_another_session(saved, tmp_path):
    content, one = saved.read_bytes(), load_session(saved)
    flipped = tmp_path / "flipped.npz"
    for position in range(0, len(content), 41):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        flipped.write_bytes(bytes(damaged))
        try:
            # Dates and attributes in the zip's own headers carry nothing.
            assert load_session(flipped) == one
        except CorruptFile:
            continue


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CorruptFile, match=r"gone.npz' is not .* \(FileNotFoundError: .*measure again, or fetch the file again"):
        load_session(tmp_path / "gone.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("samples_ns.npy"), "samples_ns"),
        (
            lambda m: m.update({"samples_ns.npy": npy(np.ones((3, 2, 29), "<i8"))}),
            r"shape \(3, 2, 29\) and should hold \(3, 2, 30\)",
        ),
        (lambda m: m.update({"samples_ns.npy": npy(np.zeros((3, 2, 30), "<i8"))}), "should hold .* positive times"),
        (lambda m: m.update({"samples_ns.npy": npy(np.ones((3, 2, 30)))}), r"array 'samples_ns' says float64 \(3, 2, 30\)"),
        (
            lambda m: m.update({"samples_ns.npy": npy(np.ones((30, 2, 3), "<i8").T)}),
            r"array 'samples_ns' says int64 \(3, 2, 30\)",
        ),
        (lambda m: m.update({"samples_ns.npy": npy(np.array([{}]))}), "array 'samples_ns' says object"),
        (lambda m: m.update({"samples_ns.npy": m["samples_ns.npy"][:-8]}), "holds 1432 bytes"),
        (lambda m: m.update({"reference_ns.npy": npy(np.ones((2, 3), "<i8"), (2, 0))}), "not in version 1.0 of NumPy's format"),
        (lambda m: m.update({"reference_ns.npy": npy(np.ones((2, 4), "<i8"))}), r"shape \(2, 4\) and should hold \(2, 3\)"),
        (lambda m: m.update({"waited.npy": npy(np.full((2, 2), np.nan))}), "should hold .* positive times or shares"),
        (lambda m: m.update({"waited.npy": npy(np.full((2, 2), -1.0))}), "should hold .* positive times or shares"),
        (lambda m: m.update({"together.npy": npy(np.full((2, 3), np.nan))}), "should hold .* positive times or shares"),
        (lambda m: m.update({"together.npy": npy(np.ones((2, 2)))}), r"shape \(2, 2\) and should hold \(2, 3\)"),
        (lambda m: m.pop("together.npy"), "together"),
        (lambda m: m.update({"session.npy": npy(np.frombuffer(b"{", np.uint8))}), "JSONDecodeError"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(saved, change, message):
    rewrite(saved, change)
    with pytest.raises(CorruptFile, match=message):
        load_session(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "it has format 3 and this version reads up to 2; update Paretrim"),
        ({"arms": {}}, "dict where a list belongs"),
        ({"arms": []}, r"its baseline 'slow' is none of its deployments \[\]"),
        ({"baseline": "fast"}, r"its baseline 'fast' is none of its deployments \['slow', 'fäst'\]"),
        ({"machine": []}, "list where an object belongs"),
        ({"seed": "0"}, "str where a whole number belongs"),
        ({"effort": {"rounds": -1}}, "rounds is -1"),
        ({"effort": {"speed": 1}}, "speed"),
        ({"loads": [[{"moon": 1}, {}]]}, "moon"),
    ],
)
def test_text_that_does_not_fit_is_refused(saved, change, message):
    edit_text(saved, lambda text: text.update(change))
    with pytest.raises(CorruptFile, match=message):
        load_session(saved)


def test_format_1_has_no_times_of_shared_cores(saved):
    edit_text(saved, lambda text: text.update(format=1))
    rewrite(saved, lambda members: members.pop("together.npy"))
    assert load_session(saved).contention == ((1.0,) * 3,) * 2


def test_a_compressed_member_is_refused_before_memory_is_taken(saved):
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("session.npy", bytes(10_000_000))
    with pytest.raises(CorruptFile, match="array 'session' is compressed or says 10000000 bytes"):
        load_session(saved)
