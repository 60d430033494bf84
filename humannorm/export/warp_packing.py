"""Warp kernel that finds where a chart fits beside those already placed."""

from __future__ import annotations

import torch
from jaxtyping import Int32
from torch import Tensor

from humannorm.warp_runtime import device_of, wp

__all__ = ["first_fits"]

wp.set_module_options({"enable_backward": False})


@wp.kernel
def first_fit_in_row(
    free: wp.array2d(dtype=wp.int32),
    spans: wp.array(dtype=wp.vec3i),
    columns: wp.int32,
    nearest: wp.array(dtype=wp.int32),
    first: wp.array(dtype=wp.int32),
):
    """Leftmost column at which every span (row, start, length) of the chart lies on free cells; -1 where there is none.

    free[y, x] is the number of free cells from x to the right. Where a span is blocked, the search goes on behind the
    cell that blocks it. nearest, if it has an entry, holds the least row + column found so far, by any row: what lies
    farther is not looked for.
    """
    y = wp.tid()
    x = wp.int32(0)
    if nearest.shape[0] > 0:
        columns = wp.min(columns, nearest[0] - y + 1)
    found = wp.int32(-1)
    blocking = wp.int32(0)  # the span that failed last is tried first
    while x < columns and found < 0:
        step = wp.int32(0)
        span = spans[blocking]
        room = free[y + span[0], x + span[1]]
        if room < span[2]:
            step = room + 1
        else:
            for i in range(spans.shape[0]):
                if step == 0:
                    other = spans[i]
                    left = free[y + other[0], x + other[1]]
                    if left < other[2]:
                        step = left + 1
                        blocking = i
        if step == 0:
            found = x
        x += step
    first[y] = found
    if found >= 0 and nearest.shape[0] > 0:
        wp.atomic_min(nearest, 0, found + y)


def first_fits(
    free: Int32[Tensor, "H W"],
    spans: Int32[Tensor, "N 3"],
    rows: int,
    columns: int,
    nearest: Int32[Tensor, "1"] | None = None,
) -> Int32[Tensor, " R"]:
    """For each of the first `rows` rows the leftmost of `columns` columns where the chart fits, -1 where it does not.

    Spans are (row, start, length) relative to the chart's corner; rows and columns must leave room for all of them.
    nearest: a bound on row + column, lowered to the least that is found. Only places at the least are sure to be given.
    """
    first = torch.empty(rows, dtype=torch.int32, device=free.device)
    bound = torch.empty(0, dtype=torch.int32, device=free.device) if nearest is None else nearest
    wp.launch(
        first_fit_in_row,
        dim=rows,
        inputs=[wp.from_torch(free), wp.from_torch(spans.contiguous(), dtype=wp.vec3i), columns, wp.from_torch(bound)],
        outputs=[wp.from_torch(first)],
        device=device_of(free),
    )
    return first
