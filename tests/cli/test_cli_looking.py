"""The sections that running commands add to the report: changed decisions and ``--inside``."""

import shutil

import pytest

from paretrim.results.run_folder import INSIDE, REPORT, changes_in, graph_file_in, index_of


def files_in(folder):
    return {str(entry["label"]): graph_file_in(folder / str(entry["folder"])) for entry in index_of(folder)}


def test_a_run_keeps_and_shows_what_changed(finished, command_json):
    changes, files = changes_in(finished), files_in(finished)
    assert list(changes) == list(files)[1:]
    last = list(files)[-1]
    _, found = command_json("inspect", "--compare", files["dense"], files[last], "--data", "digits")
    assert found["worse"] == list(changes[last].worse)
    assert found["classes"] == [vars(one) for one in changes[last].classes]
    assert found["kl"] == pytest.approx(changes[last].kl)
    page = (finished / REPORT).read_text(encoding="utf-8")
    assert 'id="changes"' in page
    assert "What changed" in page
    assert INSIDE not in page


def test_a_look_inside_is_a_page_that_the_report_links(finished, at_desk, command, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    status, _, err = command("run", "short.toml", "--folder", folder, "--effort", "none", "--inside")
    assert status == 0, err
    page = (folder / INSIDE).read_text(encoding="utf-8")
    for said in ("Grad-CAM", "First: <span>dense</span>", "What zeros cost"):
        assert said in page
    link = f'href="{INSIDE}"'
    assert link in (folder / REPORT).read_text(encoding="utf-8")
    assert command("report", folder, "--out", tmp_path / "again.html")[0] == 0
    assert f'href="copy/{INSIDE}"' in (tmp_path / "again.html").read_text(encoding="utf-8")
    # Without the option the next run does not leave a page that may belong to other files.
    assert command("run", "short.toml", "--folder", folder, "--effort", "none")[0] == 0
    assert not (folder / INSIDE).exists()
    assert link not in (folder / REPORT).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "regression.toml"),
        ("quantize", "cli_tiny_network:make", "--data", "digits", "--task", "regression"),
        ("compress", "--model", "cli_tiny_network:make", "--data", "digits", "--task", "regression"),
    ],
)
def test_there_must_be_classes_to_look_for(arguments, at_desk, command):
    (at_desk / "regression.toml").write_text('task = "regression"\n' + (at_desk / "short.toml").read_text())
    status, _, err = command(*arguments, "--inside")
    assert status == 2
    assert "--inside needs a classifier, and the task is 'regression'; leave out --inside" in err
