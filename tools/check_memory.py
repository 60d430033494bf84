"""Queue a workflow many times with other seeds on a running ComfyUI and log the server's memory after each.

    python tools/check_memory.py http://127.0.0.1:8188 PID [--runs 20] [--name text_to_human] [--set WIDGET=NUMBER ...]

PID: of the server, on this Linux machine. The last line is the slope over the runs after the first `WARM` ones; a leak
of more than `MOST` a run fails.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path

from make_thumbnails import API, run

WARM = 4  # runs until kernels, models and the host's own caches are there
MOST = 4.0  # MB a run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="a running ComfyUI")
    parser.add_argument("pid", type=int, help="of its process")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--name", default="text_to_human", help="the workflow")
    parser.add_argument("--set", action="append", default=[], metavar="WIDGET=NUMBER", help="a widget of all nodes")
    args = parser.parse_args()
    graph = json.loads((API / f"{args.name}.json").read_text("utf-8"))
    for setting in args.set:
        widget, _, number = setting.partition("=")
        set_everywhere(graph, widget, json.loads(number))
    print(f"before: {resident(args.pid):.0f} MB", flush=True)
    seen = []
    for number in range(args.runs):
        begin = time.monotonic()
        other = copy.deepcopy(graph)
        set_everywhere(other, "seed", 1000 + number)
        run(args.url, other)
        seen.append(resident(args.pid))
        print(f"run {number + 1}: {seen[-1]:.0f} MB, {time.monotonic() - begin:.0f} s", flush=True)
    rise = slope(seen[WARM:])
    print(f"{rise:+.2f} MB a run after the first {WARM}")
    return 1 if rise > MOST else 0


def set_everywhere(graph: dict[str, dict], widget: str, value: object) -> None:
    for node in graph.values():
        if widget in node["inputs"]:
            node["inputs"][widget] = value


def resident(pid: int) -> float:
    """Memory of a process, MB."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1000


def slope(values: list[float]) -> float:
    """Of the line through them by least squares."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    spread = sum((at - middle) ** 2 for at in range(len(values)))
    return sum((at - middle) * (value - mean) for at, value in enumerate(values)) / spread


if __name__ == "__main__":
    raise SystemExit(main())
