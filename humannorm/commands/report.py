"""What a verb leaves beside its result: the JSON that says what was asked for, and what was measured."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["write_report"]


def write_report(path: Path, args: argparse.Namespace, precision: str, begun: float, facts: Mapping[str, Any]) -> float:
    """The run's options, threads and facts as JSON; the seconds that it took.

    precision: what the networks calculated in. begun: on `time.monotonic`.
    """
    import torch

    from humannorm.processor import waiting_policy

    seconds = round(time.monotonic() - begun, 1)
    report = {
        **{name: getattr(args, name) for name in ("prompt", "preset", "seed")},
        "precision": precision,
        "threads": torch.get_num_threads(),
        "waiting": waiting_policy(),
        **facts,
        "seconds": seconds,
    }
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return seconds
