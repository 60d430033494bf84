"""Values over iterations: constants, steps and ramps as one small type."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from humannorm.checks import InputError

__all__ = ["Schedule", "constant", "ramp", "step"]


@dataclass(frozen=True)
class Schedule:
    """A piecewise linear function of the iteration, constant before its first and after its last point.

    Two points at one iteration are a jump: from that iteration on the later one counts.

    >>> rate = ramp(0, 1.0, 100, 0.5)
    >>> rate(-5), rate(50), rate(1000), rate.scaled_time(2)(50)
    (1.0, 0.75, 0.5, 0.875)
    """

    points: tuple[tuple[float, float], ...]  # (iteration, value), iterations never falling

    def __post_init__(self) -> None:
        if not self.points:
            raise InputError("points: expected at least one (iteration, value), got none")
        steps = [at for at, _ in self.points]
        if any(later < earlier for earlier, later in pairwise(steps)):
            raise InputError(f"points: expected iterations that never fall, got {steps}")

    def __call__(self, iteration: float) -> float:
        after = bisect_right(self.points, iteration, key=lambda point: point[0])
        if after == 0:
            return self.points[0][1]
        if after == len(self.points):
            return self.points[-1][1]
        (left, low), (right, high) = self.points[after - 1], self.points[after]
        return low + (high - low) * (iteration - left) / (right - left)

    def scaled_time(self, factor: float) -> Schedule:
        """The same schedule over `factor` times as many iterations, for shortened and lengthened runs."""
        return Schedule(tuple((at * factor, value) for at, value in self.points))

    def to_list(self) -> list[list[float]]:
        return [list(point) for point in self.points]

    @staticmethod
    def from_list(points: Sequence[Sequence[float]]) -> Schedule:
        return Schedule(tuple((float(at), float(value)) for at, value in points))


def constant(value: float) -> Schedule:
    """The same value always."""
    return Schedule(((0, value),))


def step(at: float, before: float, after: float) -> Schedule:
    """`before` until iteration `at`, `after` from `at` on."""
    return Schedule(((at, before), (at, after)))


def ramp(start: float, start_value: float, end: float, end_value: float) -> Schedule:
    """A straight line between two iterations, clamped outside (the published 4-tuples, in the order of the axes)."""
    return Schedule(((start, start_value), (end, end_value)))
