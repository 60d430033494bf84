"""The view of a long run: a few lines that are kept up to date on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from humannorm.pipeline import Progress

__all__ = ["LiveView"]

TERMINAL_SECONDS, PLAIN_SECONDS = 0.2, 15.0  # at most this often
BAR = 24  # characters
WIDTH = 110  # characters of a line at most, so that it does not wrap


@runtime_checkable
class Stream(Protocol):
    """What is needed of standard error."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...
    def isatty(self) -> bool: ...


class LiveView:
    """Follows one human through the stages; `close` leaves the last state standing.

    stream: where it is shown, lines that move only if it is a terminal.
    """

    def __init__(self, stream: Stream, title: str, stages: tuple[str, ...]) -> None:
        self.stream, self.title = stream, title
        self.lines = dict.fromkeys(stages, "waiting")
        self.moves = stream.isatty()
        self._begin = self._stage_begin = time.monotonic()
        self._stage = ""
        self._shown = 0.0
        self._height = 0  # lines on the terminal that the next drawing replaces
        if not self.moves:
            stream.write(f"{title}\n")

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        begins = progress.stage != self._stage
        if begins:
            self._end_stage(now)
            self._stage, self._stage_begin = progress.stage, now
        self.lines[progress.stage] = _describe(progress, bar=self.moves)
        if begins or progress.step == progress.steps or now - self._shown > self._pause:
            self._shown = now
            self._draw(progress.stage)

    def close(self) -> None:
        self._end_stage(time.monotonic())
        self._draw(self._stage)
        self._height = 0

    @property
    def _pause(self) -> float:
        return TERMINAL_SECONDS if self.moves else PLAIN_SECONDS

    def _end_stage(self, now: float) -> None:
        if self._stage:
            self.lines[self._stage] = f"{_clock(now - self._stage_begin)} in all"

    def _draw(self, stage: str) -> None:
        spent = _clock(time.monotonic() - self._begin)
        if self.moves:
            lines = [
                f"{self.title[: WIDTH - 10]}  {spent}",
                *(f"  {name:<7} {said}" for name, said in self.lines.items()),
            ]
            back = f"\x1b[{self._height}F" if self._height else ""
            self.stream.write(back + "".join(f"\x1b[2K{line[:WIDTH]}\n" for line in lines))
            self._height = len(lines)
        elif stage:
            self.stream.write(f"{spent} {stage}: {self.lines[stage]}\n")
        self.stream.flush()


def _describe(progress: Progress, bar: bool) -> str:
    done = round(BAR * progress.step / max(progress.steps, 1))
    parts = [f"{'#' * done}{'-' * (BAR - done)} " if bar else ""]
    parts.append(f"{progress.step}/{progress.steps}")
    if progress.seconds_left is not None:
        parts.append(f", {_clock(progress.seconds_left)} left")
    if progress.note:
        parts.append(f", {progress.note}")
    parts += [f", {name} {value:.3g}" for name, value in progress.losses.items()]
    return "".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
