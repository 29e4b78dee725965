"""Untrusted result lines: rejected by name, or good for a table and pages."""

import json
from pathlib import Path

import fakes
import pytest
from nested_places import places, with_value

from paretrim.cli import main
from paretrim.errors import CorruptFile
from paretrim.results import store
from paretrim.results.run_folder import INDEX, STORE, delivered_by, index_of

HOSTILE = (
    *(-1, 0, 1, 2, 10**400, -(10**30), 1e308, -1e308, 5e-324, 0.5, True, False, None),
    *("", "x" * 5000, "\x1b[2J\u202e</script><b>", "\udcff", "\n", "nan"),
    *([], {}, [[]], [None], {"": 1}, [{"a": "\x1b"}]),
)


FACTS = json.loads(store.encode(fakes.outcome("prune → quantize", order=("prune", "quantize"), sparsity=0.5, bits=8)))
FACTS |= {key: FACTS[key][:1] for key in ("layers", "latencies")}
OTHER = json.dumps(json.loads(store.encode(fakes.outcome("dense"))) | {"latencies": [], "layers": []})


def test_whatever_a_line_says_the_answer_is_a_report_or_one_error(tmp_path, capsys):
    source = tmp_path / "outcomes.jsonl"
    outs = [f"--out={tmp_path / 'p.html'}", f"--markdown={tmp_path / 'p.md'}", f"--figure={tmp_path / 'p.svg'}"]
    shown = 0
    for place in list(places(FACTS))[1:]:
        for value in HOSTILE:
            source.write_text(json.dumps(with_value(FACTS, place, value)) + "\n" + OTHER + "\n")
            try:
                delivered_by(source)
            except CorruptFile:
                continue
            shown += 1
            if shown % 16:  # each takes 50 ms
                continue
            status = main(["report", str(source), *outs])
            said = capsys.readouterr()
            assert "unexpected" not in said.err, (place, value, said.err)
            assert status in (0, 2), (place, value, said.err)
            pages = [path.read_text() for path in tmp_path.glob("p.*")]
            assert not [text for text in (said.out, said.err, *pages) if "\x1b" in text or "\u202e" in text], (place, value)
            assert not [text for text in pages if "<b>" in text], (place, value)
    assert shown > 300


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("deployed_value",), 1.5, r"deployed_value is 1\.5; it must lie from 0 to 1"),
        (("test_images",), 0, r"test_images is 0; it must lie from 1 to"),
        (("file_bytes",), 10**400, r"file_bytes is 1000+\.\.\.; it must lie from 1 to"),
        (("zeros",), 10**12, "zeros is 1000000000000 of [0-9]+ weights"),
        (("layers", 0, "zeros"), -1, r"layers\[0\]\.zeros is -1; it must lie from 0 to"),
        (("latencies", 0, "p50_ms", "value"), 0.0, r"latencies\[0\]\.p50_ms\.value is 0\.0; it must lie from 1e-12 to"),
        (("latencies", 0, "threads"), 0, r"latencies\[0\]\.threads is 0; it must lie from 1 to"),
        (("history", 1, "seconds"), -1.0, r"history\[1\]\.seconds is -1\.0; it must lie from 0 to"),
    ],
)
def test_numbers_that_cannot_be_are_named(tmp_path, place, value, said):
    source = tmp_path / "outcomes.jsonl"
    source.write_text(json.dumps(with_value(FACTS, place, value)) + "\n")
    with pytest.raises(CorruptFile, match=rf"'.*outcomes\.jsonl': outcome 'prune → quantize', seed 0: {said}"):
        delivered_by(source)


@pytest.mark.parametrize("content", [b"\x00\xff" * 100, b"[" * 100_000 + b"\n", b"1\n", b"{}\n", b"\n", b"9" * 10_000 + b"\n"])
def test_what_is_no_line_of_outcomes(tmp_path, content, capsys):
    source = tmp_path / "outcomes.jsonl"
    source.write_bytes(content)
    assert main(["report", str(source)]) in (1, 2)
    assert "unexpected" not in capsys.readouterr().err


INDEX_LINE = {"label": "dense", "recipe": "a", "seed": 0, "folder": "deployed/a"}


@pytest.mark.parametrize(
    "entries",
    [
        *(3, {}, [3], [[]], [{}], "x"),
        *([INDEX_LINE | {key: value}] for key in INDEX_LINE for value in ([], {}, None, 1.5, True)),
        *([INDEX_LINE | {"folder": value}] for value in ("..", "/etc", "a/../../b", "", "a\0b")),
    ],
)
def test_an_index_that_no_run_wrote(tmp_path, entries):
    (tmp_path / INDEX).write_text(json.dumps(entries))
    (tmp_path / STORE).write_text(OTHER + "\n")
    for read in (index_of, delivered_by):
        with pytest.raises(
            CorruptFile, match=r"'.*index\.json' cannot be read \(.*\); run the command that made the folder again"
        ):
            read(tmp_path)


def test_a_store_that_is_a_pipe_or_may_not_be_read_is_refused(tmp_path):
    with pytest.raises(CorruptFile, match=r"holds no outcomes: there is no file '/dev/zero'"):
        delivered_by(Path("/dev/zero"))
    with pytest.raises(CorruptFile, match=r"a' cannot be read: File name too long; check the path and its permissions"):
        delivered_by(tmp_path / ("a" * 5000))
