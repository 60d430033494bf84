"""`humannorm generate`: one sentence or many, what is refused, and what is seen on the way."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from humannorm.cli import main
from humannorm.commands.generate import slug
from humannorm.commands.live import LiveView
from humannorm.geometry import settings as geometry_settings
from humannorm.pipeline import STAGES, Progress
from humannorm.request import HumanSettings
from humannorm.texture import settings as texture_settings

SHORT = ["--sculpt-steps", "2", "--paint-steps", "2", "--faces", "600", "--texture-size", "64", "--hold", "none"]


@pytest.fixture
def tiny_presets(tiny_human: HumanSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick preset, so small that a human takes seconds."""
    monkeypatch.setitem(geometry_settings.PRESETS, "quick", tiny_human.geometry)  # type: ignore[arg-type]
    monkeypatch.setitem(texture_settings.PRESETS, "quick", tiny_human.texture)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_presets")
def test_many_prompts_one_of_which_fails(
    tiny_sd: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
    prompts.write_text("a man in a suit\n\na woman in a red dress\n", encoding="utf-8")
    out.mkdir()
    (out / "001_a_man_in_a_suit").write_text("a file where the folder should be")
    words = ["generate", "--prompts", str(prompts), "--models", str(tiny_sd("epsilon")), *SHORT, "--out", str(out)]
    assert main(words) == 1
    said = capsys.readouterr()
    made = out / "002_a_woman_in_a_red_dress"
    assert said.out.split() == [str(made / "human.glb")] and (made / "human.glb").stat().st_size > 10_000
    assert "001_a_man_in_a_suit" in said.err and "1 of 2 failed" in said.err and "Traceback" not in said.err
    assert "sculpt: 2/2" in said.err and "show: 3/3" in said.err
    record = json.loads((made / "run.json").read_text("utf-8"))
    assert record["request"]["preset"] == "quick" and record["request"]["pose"] == "a-pose"

    (out / "001_a_man_in_a_suit").unlink()
    before = (made / "run.json").read_bytes()
    assert main(words) == 1  # a run stands there, and nobody said --resume
    assert "expected a folder without a run, or --resume to go on" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert len(capsys.readouterr().out.split()) == 2
    assert (made / "run.json").read_bytes() == before  # what was finished is left alone


# The tool's own program, with the tiny presets in place of the quick one's.
TINY_PROGRAM = """
import pickle, sys
from pathlib import Path
import humannorm.optimisation
from humannorm.geometry import settings as geometry
from humannorm.texture import settings as texture
from humannorm.cli import main
human = pickle.loads(Path({file!r}).read_bytes())
geometry.PRESETS["quick"], texture.PRESETS["quick"] = human.geometry, human.texture
humannorm.optimisation.CHECKPOINT_SECONDS = float(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_in_the_same_bytes(
    tiny_sd: Callable[[str], Path], tiny_human: HumanSettings, tmp_path: Path
) -> None:
    """The tool that does it twenty times, here three times."""
    settings, program = tmp_path / "settings", tmp_path / "program.py"
    settings.write_bytes(pickle.dumps(tiny_human))
    program.write_text(TINY_PROGRAM.format(file=str(settings)), encoding="utf-8")
    root = Path(__file__).parents[1]
    options = ["--kills", "3", "--checkpoint-seconds", "0", "--program", str(program), "--out", str(tmp_path / "runs")]
    # An undressed start is sculpted, a dressed one would go to the painter at once.
    sizes = ["--faces", "800", "--texture-size", "64", "--outfit", "none"]
    words = ["generate", "a man", "--models", str(tiny_sd("epsilon")), *sizes]
    command = [sys.executable, str(root / "tools" / "kill_test.py"), *options, "--", *words]
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills" in done.stdout and "0 files that differ" in done.stdout and "the same bytes" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a PROMPT or --prompts FILE, got neither"),
        (["a man", "--prompts", "x.txt"], "expected a PROMPT or --prompts FILE, got both"),
        (["--prompts", "nowhere.txt"], "nowhere.txt: no such file"),
        (["a man", "--models", "nowhere"], "nowhere: expected a diffusers folder"),
        (["a man", "--height", "0"], "--height: expected 0.01 to 100, got 0"),
        (["a man", "--faces", "1"], "--faces: expected 4 to"),
        (["a man", "--body", "sex=2"], "sex: expected 0 to 1, got 2"),
        (["a man", "--body", "nowhere.glb"], "nowhere.glb: no such file"),
        (["a man", "--sculpt-steps", "0"], "--sculpt-steps: expected 1 to"),
    ],
)
def test_wrong_calls_are_one_sentence_and_write_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", *words, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_folder_is_named_after_its_prompt() -> None:
    assert slug("An old man, 80% wool!") == "an_old_man_80_wool" and slug("\u7537") == "human"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_view_on_a_terminal_stays_in_its_place() -> None:
    screen = Terminal()
    view = LiveView(screen, "a man", STAGES)
    view(Progress("sculpt", 1, 4, losses={"normal_sds": 0.25}, seconds_left=75))
    view(Progress("sculpt", 4, 4, "the gradient is not finite"))
    view(Progress("paint", 2, 8, "coarse"))
    view.close()
    drawings = screen.getvalue().split("\x1b[5F")  # up five lines: the title's and four stages'
    assert len(drawings) == 4
    assert "sculpt  ######------------------ 1/4, 1:15 left, normal_sds 0.25" in drawings[0]
    assert "the gradient is not finite" in drawings[1] and "waiting" in drawings[1]
    assert "sculpt  0:00 in all" in drawings[2] and "2/8, coarse" in drawings[2]


def test_the_view_in_a_file_is_plain_lines() -> None:
    file = io.StringIO()
    view = LiveView(file, "a man", STAGES)
    for step in range(1, 101):
        view(Progress("sculpt", step, 100))
    view.close()
    lines = file.getvalue().splitlines()
    assert lines == ["a man", "0:00 sculpt: 1/100", "0:00 sculpt: 100/100", "0:00 sculpt: 0:00 in all"]
