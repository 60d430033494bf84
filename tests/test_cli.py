"""The command line's manners; what each verb does is tested in its room."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from humannorm import __version__, cli
from humannorm.cameras import view_name
from humannorm.checks import InputError
from humannorm.commands.options import load_subject, parse_views, pick_device
from humannorm.files import write_files


@pytest.fixture
def verb(monkeypatch):
    """Run a verb whose work is the given function; returns the exit status."""

    def run(work, *words: str) -> int:
        module = type(sys)("humannorm.commands.render")
        module.add_arguments = lambda parser: parser.add_argument("--size", type=int, default=3)
        module.run = work
        monkeypatch.setitem(sys.modules, "humannorm.commands.render", module)
        return cli.main(["render", *words])

    return run


def said_before_it_ends(capsys, *words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a call that argparse ends."""
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    shown = capsys.readouterr()
    return end.value.code, shown.out, shown.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the file that takes nothing is Linux's")
def test_a_full_disk_is_told_with_what_to_do(verb, tmp_path, capsys):
    target = tmp_path / "human.glb"
    (tmp_path / f".{target.name}.{os.getpid()}.partial").symlink_to("/dev/full")
    assert verb(lambda args: write_files({target: b"glTF"})) == 1
    assert capsys.readouterr().err == f"humannorm: {target}: no space left on device; make room there\n"
    assert not list(tmp_path.iterdir())


def test_a_fresh_interpreter_is_quiet_and_leaves_no_file(tmp_path):
    command = [sys.executable, "-m", "humannorm", "--version"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (shown.returncode, shown.stdout.strip(), shown.stderr) == (0, f"humannorm {__version__}", "")
    assert not list(tmp_path.iterdir())


def test_no_words_are_a_call_for_help(capsys):
    status, shown, _ = said_before_it_ends(capsys)
    assert status == 0
    for name, summary in cli.VERBS.items():
        assert name in shown and summary.split()[0] in shown


def test_a_wrong_call_is_status_2(capsys):
    status, _, complaint = said_before_it_ends(capsys, "fly")
    assert status == 2 and "invalid choice: 'fly'" in complaint


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_offered_verb_has_help(capsys, name):
    status, shown, _ = said_before_it_ends(capsys, name, "--help")
    assert status == 0 and "--debug" in shown


@pytest.mark.parametrize("words", [("generate",), ("dataset", "people"), ("evaluate", "samples")])
def test_help_says_what_holds_where_nothing_is_said(capsys, words):
    _, shown, _ = said_before_it_ends(capsys, *words, "--help")
    assert "draw (default: 0)" in " ".join(shown.split()) and "default: False" not in shown


def test_arguments_reach_the_verb_and_its_status_comes_back(verb):
    sizes = []
    assert verb(lambda args: sizes.append(args.size), "--size", "7") == 0
    assert verb(lambda args: 5) == 5
    assert sizes == [7]


@pytest.mark.parametrize(
    "error",
    [InputError("vertices: expected some, got none"), FileNotFoundError("no a.glb"), ImportError("pip install x")],
)
def test_an_error_is_one_sentence_on_standard_error(verb, capsys, error):
    def fail(args):
        raise error

    assert verb(fail) == 1
    assert capsys.readouterr().err == f"humannorm: {error}\n"
    with pytest.raises(type(error)):
        verb(fail, "--debug")


def test_a_fault_of_ours_keeps_its_traceback(verb):
    def fail(args):
        raise RuntimeError("unforeseen")

    with pytest.raises(RuntimeError):
        verb(fail)


def test_warnings_and_interruptions_are_one_line(verb, capsys):
    def warn(args):
        import warnings

        warnings.warn("its texture is missing", stacklevel=1)
        raise KeyboardInterrupt

    assert verb(warn) == 130
    assert capsys.readouterr().err == "humannorm: warning: its texture is missing\nhumannorm: interrupted\n"


def test_views_are_names_or_degrees():
    assert parse_views("front, left,back,right") == {"front": 0.0, "left": 90.0, "back": 180.0, "right": -90.0}
    assert parse_views("30,-45,90") == {"030": 30.0, "m045": -45.0, "left": 90.0}
    assert [view_name(angle) for angle in (0, 360, 270, 7.5, -180)] == ["front", "front", "right", "7.5", "back"]
    for text, message in [
        ("top", "got 'top'"),
        ("", "at least one of front"),
        ("nan", "-360 to 360"),
        ("1e9", "-360 to 360"),
    ]:
        with pytest.raises(InputError, match=message):
            parse_views(text)


def test_devices():
    import torch

    assert pick_device("cpu") == torch.device("cpu") and pick_device("auto").type in ("cpu", "cuda")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="--device: expected cpu or auto"):
            pick_device("cuda")


def test_body_is_the_adult_that_comes_along():
    mesh = load_subject("body")
    height = mesh.vertices[:, 1].max() - mesh.vertices[:, 1].min()
    assert float(height) == pytest.approx(1.8, abs=0.02) and float(mesh.vertices.abs().max()) <= 1.0


def test_an_interrupted_run_that_can_go_on_says_how(monkeypatch, tmp_path, capsys):
    def stopped(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("humannorm.commands.sculpt.run", stopped)
    assert cli.main(["sculpt", "a man", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "humannorm: interrupted; the same command with --resume goes on\n"
