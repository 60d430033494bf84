"""The one training loop: whatever is trained is a `Task`; the loop brings steps, averages, checkpoints and plots.

Every random draw of step n on process p comes from a generator seeded with (seed, n, p), so that a run resumed after
a kill goes on exactly as if nothing had happened, without any random state in its checkpoint.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from humannorm.checks import InputError, check_choice
from humannorm.files import save_tensors
from humannorm.processor import has_native_bf16
from humannorm.training.config import LoopConfig
from humannorm.training.ema import Ema
from humannorm.training.fast_norm import speed_up_norms
from humannorm.training.muon import Muon, hidden_matrices

__all__ = ["Task", "autocast_precision", "learning_rate", "share_used", "train"]

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"


class Task(nn.Module):
    """What is trained: modules, a way to draw a batch and a loss. Parameters that require a gradient are trained."""

    def draw(self, generator: torch.Generator, batch_size: int) -> dict[str, Any]:
        """A batch, a function of the generator alone."""
        raise NotImplementedError

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """The loss of a batch, a scalar. All randomness is in the batch."""
        raise NotImplementedError

    def validate(self, folder: Path, step: int) -> Mapping[str, float]:
        """Write sheets of fixed prompts or images into the folder; returns figures for the log."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write what was trained in diffusers layout."""
        raise NotImplementedError


def train(task: Task, config: LoopConfig, folder: str | Path, *, device: str = "auto") -> Path:
    """Train to `config.steps`, from the folder's checkpoint if there is one.

    Writes into the folder: `checkpoint.safetensors` (weights, averages, Adam's moments; replaced atomically),
    `log.jsonl`, `loss.png`, `sheets/` and `model/` (the averaged weights in diffusers layout; returned).
    Several processes (`accelerate launch`) average their gradients, or at times their weights; the first one writes.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    AcceleratorState._reset_state()  # a process keeps its first training's precision, and refuses one of another
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=autocast_precision(config.precision, device))
    trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError("task: expected parameters that require a gradient, got none")
    optimizer = build_optimizer(task, config)
    task.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if accelerator.device.type == "cpu":
        speed_up_norms(task)
    ema = Ema(task, config.ema_decay)
    first = load_checkpoint(folder / CHECKPOINT, task, ema, optimizer)
    apart = config.average_every > 1 and accelerator.num_processes > 1
    model = accelerator.prepare_model(task, evaluation_mode=apart)  # not wrapped: no gradients are exchanged
    optimizer = accelerator.prepare_optimizer(optimizer)
    log = _Log(folder / LOG, first) if accelerator.is_main_process else None
    saved = started = time.monotonic()
    logger.info("training from step %d to %d on %s", first, config.steps, accelerator.device)
    for step in range(first, config.steps):
        began = time.monotonic()
        rate = learning_rate(config, step, share_used(config, step, began - started))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = backward(model, task, config, step, accelerator)
        norm = accelerator.clip_grad_norm_(trained, config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        last = is_last(config, step, time.monotonic() - started, accelerator)
        if apart and (step + 1) % config.average_every == 0:
            average_weights(trained, accelerator)
        ema.update()
        if log is not None:
            log.write(step=step, loss=loss.item(), norm=float(norm), rate=rate, seconds=time.monotonic() - began)
            if not last and time.monotonic() - saved > config.checkpoint_seconds:
                save_checkpoint(folder / CHECKPOINT, step + 1, task, ema, optimizer, config)
                saved = time.monotonic()
            if last or (step + 1) % config.sheet_steps == 0:
                with ema.applied(), accelerator.autocast():
                    write_present(folder, task, log, step, sheet=not (last and config.minutes))
            if last:  # with the model written: a run that finds this checkpoint has nothing left to do
                save_checkpoint(folder / CHECKPOINT, step + 1, task, ema, optimizer, config)
        if last:
            break
    accelerator.wait_for_everyone()
    return folder / "model"


def backward(model: nn.Module, task: Task, config: LoopConfig, step: int, accelerator: Any) -> Tensor:
    """Gradients of one step, accumulated over its parts; the mean loss, which has to be finite."""
    loss = torch.zeros((), device=accelerator.device)
    for part in range(config.accumulate):
        generator = step_generator(config.seed, step, accelerator.process_index * config.accumulate + part)
        part_loss = model(to_device(task.draw(generator, config.batch_size), accelerator.device)) / config.accumulate
        accelerator.backward(part_loss)
        loss += part_loss.detach()
    if not torch.isfinite(loss):
        raise FloatingPointError(f"step {step}: the loss is {loss.item()}; the last checkpoint is before it")
    return loss


def write_present(folder: Path, task: Task, log: _Log, step: int, *, sheet: bool) -> None:
    """The model as its weights are now, the curves of the losses, and with `sheet` its figures and pictures."""
    figures = task.validate(folder / "sheets", step + 1) if sheet else {}
    task.save(folder / "model")
    logger.info("step %d: loss %.4f, %s", step + 1, log.recent(), dict(figures))
    if figures:
        log.write(step=step, **figures)
    log.plot(folder / "loss.png")


def build_optimizer(task: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """AdamW, or Muon with AdamW for what Muon does not suit."""
    check_choice("optimizer", config.optimizer, ("adamw", "muon"))
    settings: dict[str, Any] = {"lr": config.learning_rate, "betas": config.betas, "weight_decay": config.weight_decay}
    if config.optimizer == "muon":
        return Muon(*hidden_matrices(task, outer=("conv_in", "conv_out")), **settings)
    return torch.optim.AdamW([value for value in task.parameters() if value.requires_grad], fused=True, **settings)


@torch.no_grad()
def average_weights(parameters: Sequence[nn.Parameter], accelerator: Any) -> None:
    """The mean over all processes, in place."""
    mean = accelerator.reduce(torch.cat([parameter.flatten() for parameter in parameters]), reduction="mean")
    for parameter, value in zip(parameters, mean.split([p.numel() for p in parameters]), strict=True):
        parameter.copy_(value.view_as(parameter))


def share_used(config: LoopConfig, step: int, seconds: float) -> float:
    """How much of the run is over, 0..1: of its steps, or of its minutes if that is more."""
    timed = seconds / (60.0 * config.minutes) if config.minutes else 0.0
    return min(1.0, max(step / config.steps, timed))


def is_last(config: LoopConfig, step: int, seconds: float, accelerator: Any) -> bool:
    """Whether a run ends after this step: the first process's clock is everybody's."""
    if step + 1 == config.steps:
        return True
    if not config.minutes:
        return False
    over = torch.tensor(float(seconds >= 60.0 * config.minutes and accelerator.is_main_process))
    return bool(accelerator.reduce(over.to(accelerator.device), reduction="sum") > 0)


def learning_rate(config: LoopConfig, step: int, used: float) -> float:
    """Linear warm-up over steps, constant, linear cool-down to 0 over the last share of the run (`share_used`)."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cool = min(1.0, (1.0 - used) / max(config.cooldown, 1.0 / config.steps))
    return config.learning_rate * warm * cool


def autocast_precision(precision: str, device: str) -> str:
    """What "auto" means where the training runs: bf16 if the GPU or the CPU has instructions for it, else "no"."""
    if precision != "auto":
        return precision
    used = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if has_native_bf16(used):
        return "bf16"
    return "fp16" if used == "cuda" else "no"


def step_generator(seed: int, step: int, stream: int) -> torch.Generator:
    """The generator of one step of one process."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 1_009 + stream)


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors on the device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}


def save_checkpoint(
    path: Path, step: int, task: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer, config: LoopConfig
) -> None:
    """One safetensors file; the old one stays until the new one is whole."""
    tensors: dict[str, Tensor] = {f"ema.{name}": value for name, value in ema.averages.items()}
    tensors |= {f"model.{name}": value.detach() for name, value in ema.parameters.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": value for name, value in moments.items()}
    metadata = {"step": str(step), "ema_updates": str(ema.updates), "config": json.dumps(asdict(config))}
    save_tensors(path, {name: value.contiguous() for name, value in tensors.items()}, metadata)


def load_checkpoint(path: Path, task: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer) -> int:
    """Take up a checkpoint in place; returns the next step, 0 if there is no file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise InputError(f"{path}: expected a whole checkpoint, got one that cannot be read ({error})") from error
    wanted = {f"model.{name}" for name in ema.parameters}
    have = {name for name in tensors if name.startswith("model.")}
    if wanted != have:
        raise InputError(
            f"{path}: expected the checkpoint of this training, got one with other weights "
            f"({len(wanted - have)} missing, {len(have - wanted)} unknown); choose another folder"
        )
    with torch.no_grad():
        for name, parameter in ema.parameters.items():
            if parameter.shape != tensors[f"model.{name}"].shape:
                raise InputError(
                    f"{path}: expected {name} of {list(parameter.shape)}, got {list(tensors[f'model.{name}'].shape)}"
                )
            parameter.copy_(tensors[f"model.{name}"])
            ema.averages[name].copy_(tensors[f"ema.{name}"])
    ema.updates = int(metadata["ema_updates"])
    state = optimizer.state_dict()
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("adam."):
            _, index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
    _lay_out_like_parameters(optimizer)
    return int(metadata["step"])


def _lay_out_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Moments in the memory order of their parameters: a file has them in another, and a fused step on a CPU takes
    both as rows of numbers."""
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                kept[name] = torch.empty_like(parameter).copy_(value)


class _Log:
    """One JSON line per step; what lies after the resumed step is dropped."""

    def __init__(self, path: Path, first_step: int) -> None:
        self.path = path
        self.lines: list[dict[str, float]] = []
        if path.is_file():
            for text in path.read_text(encoding="utf-8").splitlines():
                try:
                    line = json.loads(text)
                except json.JSONDecodeError:  # the line a kill cut short
                    break
                if line["step"] < first_step:
                    self.lines.append(line)
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8")
        os.replace(partial, path)

    def write(self, **values: float) -> None:
        self.lines.append(values)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def recent(self, count: int = 200) -> float:
        losses = [line["loss"] for line in self.lines if "loss" in line][-count:]
        return sum(losses) / len(losses)

    def plot(self, path: Path) -> None:
        """The loss over steps, each step faint and a running mean in full colour."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        points = [(line["step"], line["loss"]) for line in self.lines if "loss" in line]
        steps, losses = zip(*points, strict=True)
        mean, means = losses[0], []
        for index, loss in enumerate(losses):
            mean += (loss - mean) * max(0.01, 1.0 / (index + 1))
            means.append(mean)
        figure, axes = pyplot.subplots(figsize=(8, 4))
        axes.plot(steps, losses, linewidth=0.3, alpha=0.4)
        axes.plot(steps, means, linewidth=1.5)
        middle = sorted(losses)[len(losses) // 2]
        axes.set_ylim(0, 3 * middle if math.isfinite(middle) and middle > 0 else None)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        partial = path.with_name("." + path.name)
        figure.savefig(partial, dpi=100, bbox_inches="tight", format="png")
        pyplot.close(figure)
        os.replace(partial, path)
