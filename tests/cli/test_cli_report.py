"""``paretrim report``: pages of run folders and of result files, and folders without outcomes."""

import pytest

from paretrim.errors import CannotWrite
from paretrim.report import page


def test_report_of_a_folder_and_of_a_store(finished, command, command_json, tmp_path):
    status, out, _ = command("report", finished, "--out", tmp_path / "page.html", "--title", "Of mine")
    assert status == 0
    assert "prune → quantize" in out
    assert "<title>Of mine</title>" in (tmp_path / "page.html").read_text()
    status, found = command_json("report", finished / "outcomes.jsonl")
    assert status == 0
    assert found["report"] is None
    assert command_json("report", finished, finished)[1]["outcomes"] == found["outcomes"]


def test_a_folder_that_cannot_be_written_is_shown_all_the_same(finished, command, command_json, monkeypatch, tmp_path):
    """As a run folder of somebody else."""

    def refuse(_, path):
        raise CannotWrite(f"'{path}' cannot be written: Permission denied; choose another place, or allow writing there")

    monkeypatch.setattr(page, "write", refuse)
    status, out, err = command("report", finished)
    assert (status, err) == (0, "")
    assert "prune → quantize" in out
    said = f"no page was written: '{finished}/report.html' cannot be written: Permission denied; choose another place, or allow "
    assert out.splitlines()[-1] == f"{said}writing there, or name the page with --out"
    assert command_json("report", finished)[1]["report"] is None
    status, _, err = command("report", finished, "--out", tmp_path / "page.html")
    assert (status, "page.html' cannot be written: Permission denied" in err) == (1, True)


def test_a_table_where_its_signs_cannot_be_written(finished, launch, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    process = launch("report", finished, "--out", tmp_path / "page.html")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert "prune > quantize" in out


def test_a_report_made_again_keeps_its_title_and_the_command(at_desk, command, tmp_path):
    folder = tmp_path / "run"
    assert command("run", "short.toml", "--folder", folder, "--effort", "none")[0] == 0
    first = (folder / "report.html").read_text()
    assert "<title>cli_tiny_network:make on digits</title>" in first
    assert f"<pre><code>paretrim run short.toml --folder {folder} --effort none</code></pre>" in first
    (folder / "report.html").unlink()
    assert command("report", folder)[0] == 0
    assert (folder / "report.html").read_text() == first
    (folder / "reproduce.json").write_text("{}")
    with pytest.warns(
        UserWarning, match=r"reproduce\.json' cannot be read \(dict, not a list\), so the page does without it; to"
    ):
        assert command("report", folder)[0] == 0
    assert "<pre><code>" not in (folder / "report.html").read_text()
    (folder / "reproduce.json").unlink()  # a folder of an earlier version
    assert command("report", folder)[0] == 0
    assert "<pre><code>" not in (folder / "report.html").read_text()


def test_folders_without_outcomes_say_what_to_do(command, tmp_path):
    (tmp_path / "stages").mkdir()
    for given in (("report", tmp_path), ("export", tmp_path, "--to", tmp_path / "a.onnx")):
        status, _, err = command(*given)
        assert (status, "has no outcomes yet: the run in it is not finished; give its command again" in err) == (1, True)
    file = tmp_path / "deployed" / "0123" / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_text("")
    for given in (("report", tmp_path), ("export", tmp_path, "--to", tmp_path / "a.onnx")):
        status, _, err = command(*given)
        assert status == 1
        assert "paretrim.compress() made it from Python, which sees no test images" in err
        assert f"the newest file is '{file}'" in err


def test_a_report_needs_outcomes(command, tmp_path):
    status, _, err = command("report", tmp_path)
    assert status == 1
    assert "holds no outcomes: there is no file '" in err
    (tmp_path / "outcomes.jsonl").write_text("")
    (tmp_path / "index.json").write_text("[{}]")
    status, _, err = command("report", tmp_path)
    assert status == 1
    assert "run the command that made the folder again to write it" in err
