"""What the optimisers of geometry and texture share: the stage clock, AdamW behind a guard, the checkpointed loop, and
the files in which their states rest."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError
from humannorm.files import save_tensors
from humannorm.optimiser_settings import OptimiserSettings

__all__ = [
    "Callback",
    "GuardedAdamW",
    "OptimiserProgress",
    "OptimiserRun",
    "OptimiserState",
    "RunError",
    "StageTimes",
    "load_optimiser_state",
    "read_state_file",
    "save_loss_plot",
    "save_optimiser_state",
    "tensors_below",
    "whole_number",
    "write_state_file",
]

CHECKPOINT_SECONDS = 45.0  # at most this long between two checkpoints
SCALE_MEMORY = 0.95  # of the running mean of the gradient norm


@runtime_checkable
class OptimiserState(Protocol):
    """What the state of every stage carries from one run to the next."""

    @property
    def step(self) -> int: ...
    @property
    def moments(self) -> dict[str, Tensor] | None: ...
    @property
    def gradient_scale(self) -> float: ...
    @property
    def history(self) -> Tensor | None: ...


State = TypeVar("State", bound=OptimiserState)


class RunError(RuntimeError):
    """The run could not go on; `state` is the last good one."""

    def __init__(self, message: str, state: Any) -> None:
        super().__init__(message)
        self.state = state


class StageTimes:
    """Seconds spent so far, stage by stage. The stage `networks` is all calls of diffusion models and VAE."""

    def __init__(self, stages: Iterable[str], device: torch.device) -> None:
        self.seconds = dict.fromkeys(stages, 0.0)
        self.device = device

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[stage] += time.perf_counter() - begin

    @property
    def overhead(self) -> float:
        """Time of all stages over the time of the networks alone."""
        return sum(self.seconds.values()) / max(self.seconds["networks"], 1e-9)


@dataclass(frozen=True, eq=False)
class OptimiserProgress:
    """What the callback sees after every step. Returning False from the callback ends the run there."""

    stage: str  # "sculpt", "coarse" or "fine"
    step: int  # steps done
    steps: int
    losses: dict[str, float]  # by the stage's `LOSS_NAMES`
    picture: Float[Tensor, "H W 3"]  # first view of the step, 0..1: normals while sculpting, colours while painting
    target: Float[Tensor, "H W 3"] | None  # of that view, where the step had one
    faces: int  # of the surface
    times: StageTimes
    rejected: str | None  # why this step's update was not taken
    seconds_left: float


Callback = Callable[[OptimiserProgress], bool | None]


class GuardedAdamW:
    """AdamW that leaves a step out if its gradient is not to be trusted. Moments go in and out by parameter name.

    groups: parameters by name with the learning rate of each group. A gradient is refused if it is not finite, or if
    its norm is over `settings.max_gradient_growth` times the running mean `scale` (0: none yet).
    """

    def __init__(
        self,
        groups: Sequence[tuple[Mapping[str, torch.nn.Parameter], float]],
        settings: OptimiserSettings,
        moments: Mapping[str, Tensor] | None,
        scale: float,
    ) -> None:
        self.parameters = {name: parameter for group, _ in groups for name, parameter in group.items()}
        self.max_growth, self.scale = settings.max_gradient_growth, scale
        self.rejections = 0  # in a row
        self._adamw = torch.optim.AdamW(
            [{"params": list(group.values()), "lr": rate} for group, rate in groups if group],
            betas=settings.betas,
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        if moments is not None:
            for name, parameter in self.parameters.items():
                kept = tensors_below(f"{name}.", moments)
                self._adamw.state[parameter] = {key: value.clone() for key, value in kept.items()}

    def zero_grad(self) -> None:
        self._adamw.zero_grad()

    def step(self, number: int, rate: float | None = None) -> tuple[float, str | None]:
        """One step, at another learning rate if given; the gradient's norm, and why the step was not taken if so.

        number: of the step, for the message.
        """
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
        limit = self.max_growth * self.scale
        rejected = None
        if not norm < float("inf"):
            rejected = f"the gradient at step {number} is not finite"
        elif 0 < limit < norm:
            rejected = f"the gradient norm {norm:.3g} at step {number} is over {limit:.3g}"
        if rejected is not None:
            self.rejections += 1
            return norm, rejected
        self.rejections = 0
        memory = SCALE_MEMORY if self.scale else 0.0
        self.scale = memory * self.scale + (1 - memory) * norm
        if rate is not None:
            for group in self._adamw.param_groups:
                group["lr"] = rate
        self._adamw.step()
        return norm, None

    def moments(self) -> dict[str, Tensor] | None:
        """Copies as `<parameter>.<moment>`; None before the first step."""
        moments = {
            f"{name}.{key}": value.clone()
            for name, parameter in self.parameters.items()
            for key, value in self._adamw.state.get(parameter, {}).items()
        }
        return moments or None


class OptimiserRun(ABC, Generic[State]):
    """The moving parts of one run of a stage. What a step changes beside the parameters it changes in `completing`, or
    it can `undo` it: so an interruption anywhere leaves the last whole step.

    optimizer: over the parameters that the run moves. generator: a CPU generator, the source of every draw.
    stages: names for the clock, `networks` and `update` among them. loss_names: the columns of the history.
    """

    def __init__(
        self,
        state: State,
        settings: OptimiserSettings,
        optimizer: GuardedAdamW,
        generator: torch.Generator,
        *,
        device: torch.device,
        stages: Sequence[str],
        loss_names: Sequence[str],
    ) -> None:
        self.step = self._first_step = state.step
        self.history: list[Tensor] = [] if state.history is None else list(state.history)
        self.optimizer, self.generator = optimizer, generator
        self.times = StageTimes(stages, device)
        self._steps, self._max_rejections, self._loss_names = settings.steps, settings.max_rejections, loss_names
        self._begin = time.monotonic()
        self._drawn = generator.get_state()  # as it was at the end of the last whole step
        self._is_whole = True  # False while a step's results are being taken over

    @abstractmethod
    def advance(self) -> OptimiserProgress:
        """One step: gradients into the parameters, then `completing`."""

    @abstractmethod
    def state(self) -> State:
        """The run so far as a payload of its own."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """`state`, and the generator's, to a file."""

    def undo(self) -> None:
        """Take back what an unfinished step has changed."""

    @contextmanager
    def completing(self, losses: dict[str, float], rate: float | None = None) -> Iterator[str | None]:
        """The end of a step: update, and inside it whatever else the step changes. Gives why the update was refused."""
        self._is_whole = False
        with self.times.measure("update"):
            losses["gradient_norm"], rejected = self.optimizer.step(self.step, rate)
        yield rejected
        self.step += 1
        self.history.append(torch.tensor([losses[name] for name in self._loss_names]))
        self._drawn = self.generator.get_state()
        self._is_whole = True

    @property
    def stacked_history(self) -> Tensor | None:
        return torch.stack(self.history) if self.history else None

    @property
    def seconds_left(self) -> float:
        """By the mean pace of this run, once a step is done."""
        return (time.monotonic() - self._begin) / (self.step - self._first_step) * (self._steps - self.step)

    def finish(self, callback: Callback | None, checkpoint: Path | None) -> State:
        """Step until the settings' `steps`, the callback's False, or too many rejections in a row (`RunError`).

        The checkpoint is of a whole step at every time, also after an exception from anywhere.
        """
        if self.step >= self._steps:
            raise InputError(f"settings.steps: expected more than the {self.step} steps done, got {self._steps}")
        saved = time.monotonic()
        try:
            while self.step < self._steps:
                progress = self.advance()
                stop = callback is not None and callback(progress) is False
                if checkpoint is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self.save(checkpoint)
                    saved = time.monotonic()
                if stop:
                    break
                rejections = self.optimizer.rejections
                if rejections >= self._max_rejections:
                    raise RunError(f"{rejections} steps in a row were rejected: {progress.rejected}", self.state())
        finally:
            if self._is_whole:
                self.undo()
                self.generator.set_state(self._drawn)
                if checkpoint is not None:
                    self.save(checkpoint)
        return self.state()


def write_state_file(path: str | Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """One safetensors file, whole or not at all; the numbers are JSON in its header."""
    whole: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in tensors.items():
        value = value.detach().contiguous()
        if value.numel() and value.data_ptr() in places:  # the format refuses tensors that share their memory
            value = value.clone()
        places.add(value.data_ptr())
        whole[name] = value
    save_tensors(Path(path), whole, {"state": json.dumps(numbers)})


def read_state_file(
    path: str | Path, what: str, form: str, device: torch.device | str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and numbers of `write_state_file`; refused unless the numbers name the format `form`.

    what: the kind of state, for the message.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            numbers: dict[str, Any] = json.loads((file.metadata() or {}).get("state", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: expected a {what} state (safetensors), got a broken file: {error}") from error
    said = numbers.get("format") if isinstance(numbers, dict) else None
    if said != form:
        raise InputError(f"{path}: expected the format {form!r}, got {said!r}")
    return tensors, numbers


def save_optimiser_state(
    path: str | Path,
    form: str,
    state: OptimiserState,
    tensors: Mapping[str, Tensor],
    numbers: Mapping[str, Any],
    generator: torch.Generator | None = None,
) -> None:
    """Write the state of a stage: its own tensors and numbers, and what every state carries. form: the file's format.

    generator: its state is kept too, so that a resumed run draws what the unbroken one would have drawn.
    """
    whole = {**tensors, **{f"moments.{name}": value for name, value in (state.moments or {}).items()}}
    if state.history is not None:
        whole["history"] = state.history
    if generator is not None:
        whole["generator"] = generator.get_state()
    write_state_file(path, whole, {"format": form, **numbers})


def load_optimiser_state(
    path: str | Path, what: str, form: str, generator: torch.Generator | None, device: torch.device | str
) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Tensors and numbers that `save_optimiser_state` wrote, and the fields of every `OptimiserState` by name.

    The generator is set to where it was, if the file knows.
    """
    tensors, numbers = read_state_file(path, what, form, device)
    if generator is not None and "generator" in tensors:
        generator.set_state(tensors["generator"].cpu())
    carried = {
        "step": whole_number(numbers, "step"),
        "moments": tensors_below("moments.", tensors) or None,
        "gradient_scale": float(numbers["gradient_scale"]),
        "history": tensors.get("history"),
    }
    return tensors, numbers, carried


def whole_number(numbers: Mapping[str, Any], name: str, low: int = 0, high: int = 2**31 - 1) -> int:
    """One of a state file's numbers, refused unless it is a whole one in this range."""
    value = numbers[name]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"expected a whole number {low} to {high} for {name}, got {value!r}")
    return value


def tensors_below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def save_loss_plot(path: Path, history: Tensor | None, names: Sequence[str], *, logarithmic: bool) -> None:
    """The curve of every term that was ever above zero. history: [steps, names]."""
    from matplotlib.figure import Figure

    rows = torch.zeros(0, len(names)) if history is None else history.cpu()
    shown = [(name, rows[:, at]) for at, name in enumerate(names) if bool((rows[:, at] > 0).any())]
    figure = Figure(figsize=(8, 1.5 * max(len(shown), 1) + 0.6), layout="constrained")
    panels = figure.subplots(max(len(shown), 1), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, values) in zip(panels, shown, strict=False):
        steps = torch.arange(1, len(values) + 1)[values > 0]
        panel.plot(steps.numpy(), values[values > 0].numpy(), linewidth=0.8)
        if logarithmic:
            panel.set_yscale("log")
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("step")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
