"""A node's run of an optimiser: begun or gone on with, shown while it runs, cleaned up after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from .devices import moved, work_device
from .host_denoiser import HostDenoiser, with_denoisers
from .long_work import Progress, unfinished_file
from .payloads import GuidancePayload

__all__ = ["HostRun", "RunSpan", "State", "run_optimiser"]


class _State(Protocol):
    @property
    def step(self) -> int: ...


State = TypeVar("State", bound=_State)


@dataclass(frozen=True)
class RunSpan:
    """What part of an optimisation a node runs, and how it is called."""

    name: str  # first word of the unfinished file
    activity: str  # in the progress line
    first: int  # steps that were done before the node
    last: int  # steps that are done after it
    views: int  # batch that memory is requested for


@dataclass(frozen=True, eq=False)
class HostRun:
    """What an optimiser needs of the host while it runs."""

    denoisers: list[HostDenoiser]  # one for each guidance
    generator: torch.Generator
    tell: Callable[[int, Tensor, float], None]  # step, picture [H, W, 3] in 0..1, seconds left
    checkpoint: Path


def run_optimiser(
    hidden: Any,
    span: RunSpan,
    start: State,
    guides: Sequence[GuidancePayload],
    seed: int,
    *,
    load: Callable[[Path, torch.Generator, torch.device], State],
    begin: Callable[[State, torch.Generator], State],
    optimise: Callable[[State, HostRun], State],
) -> tuple[State, Path]:
    """The state after the span, and the file that holds it until the node is done and will `forget` it; inside
    `ordinary_tensors`.

    A run that was interrupted goes on from the file that it left (`load`), any other from `start`, which `begin` makes
    ready on the device that is worked on. hidden: the node's hidden values.
    """
    generator = torch.Generator().manual_seed(seed)
    unfinished = unfinished_file(span.name, hidden.unique_id, hidden.prompt, start)
    if unfinished.is_file():
        state = load(unfinished, generator, work_device())
    else:
        state = begin(moved(start, work_device()), generator)
    progress = Progress(hidden.unique_id, span.last - span.first, span.activity)

    def tell(step: int, picture: Tensor, seconds_left: float) -> None:
        progress.update(step - span.first, picture, seconds_left)

    if state.step < span.last:
        finished = False
        try:
            state = with_denoisers(
                guides,
                span.views,
                seed,
                lambda denoisers: optimise(state, HostRun(denoisers, generator, tell, unfinished)),
            )
            finished = True
        finally:
            progress.close(finished)
    return state, unfinished
