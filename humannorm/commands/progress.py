"""The line on standard error that follows an optimiser."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humannorm.optimisation import OptimiserProgress

__all__ = ["ProgressLine"]


class ProgressLine:
    """One line that is kept up to date, as a callback of an optimiser; also keeps what the report needs.

    describe: what to say of a step beside its number and the time left.
    """

    def __init__(self, describe: Callable[[Any], str]) -> None:
        self.describe = describe
        self.rejected = 0
        self.stages: dict[str, float] = {}
        self.overhead = 0.0
        self._shown = 0.0

    def __call__(self, progress: OptimiserProgress) -> None:
        self.stages = {name: round(value, 2) for name, value in progress.times.seconds.items()}
        self.overhead = round(progress.times.overhead, 3)
        if progress.rejected is not None:
            self.rejected += 1
            sys.stderr.write(f"\n{progress.rejected}: step not taken\n")
        if time.monotonic() - self._shown > 1.0 or progress.step == progress.steps:
            self._shown = time.monotonic()
            sys.stderr.write(
                f"\rstep {progress.step} of {progress.steps}, {self.describe(progress)}, "
                f"{progress.seconds_left:.0f} s left   "
            )
            sys.stderr.flush()

    def close(self) -> None:
        sys.stderr.write("\n")

    def facts(self) -> dict[str, Any]:
        """For the report: steps not taken, seconds by stage, and all stages over the networks alone."""
        return {
            "rejected_steps": self.rejected,
            "stages_seconds": self.stages,
            "step_over_networks": self.overhead,
        }
