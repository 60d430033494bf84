"""Training on several processes of one machine, for real."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

PROGRAM = """
import sys
from pathlib import Path
import torch
from accelerate import PartialState
from humannorm.training.config import LoopConfig
from humannorm.training.loop import Task, train

class Line(Task):
    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.zeros(3))
    def draw(self, generator, batch_size):
        x = torch.randn(batch_size, 3, generator=generator)
        return {"x": x, "y": x @ torch.tensor([1.0, -2.0, 0.5])}
    def forward(self, batch):
        return (batch["x"] @ self.slope - batch["y"]).square().mean()
    def validate(self, folder, step):
        return {}
    def save(self, folder):
        pass

every, steps, out = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
task = Line()
loop = LoopConfig(steps=steps, batch_size=8, learning_rate=0.05, warmup_steps=1, precision="no", average_every=every)
train(task, loop, out / "run", device="cpu")
torch.save(task.slope.detach(), out / f"slope_{PartialState().process_index}.pt")
"""


def slopes(folder, every: int, steps: int):
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(folder / "program.py"), str(every), str(steps), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [torch.load(folder / f"slope_{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 4])
def test_processes_end_with_the_same_weights_whether_gradients_or_weights_are_averaged(tmp_path, every):
    first, second = slopes(tmp_path / "whole", every, 200)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first, torch.tensor([1.0, -2.0, 0.5]), atol=0.05, rtol=0)


@pytest.mark.slow
def test_between_two_averages_each_process_goes_its_own_way(tmp_path):
    first, second = slopes(tmp_path / "part", 4, 7)
    assert float((first - second).abs().max()) > 1e-4
