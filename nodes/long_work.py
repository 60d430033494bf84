"""Manners of nodes that run for minutes: progress with time left, live preview, interruption, and going on after it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from humannorm.cameras import VIEW_AZIMUTHS
from humannorm.images import contact_sheet, to_pil

__all__ = ["Progress", "forget", "heard_inside", "say", "show_result", "unfinished_file"]

PREVIEW_SECONDS = 1.0  # at least this long between two previews
PREVIEW_SIDE = 512  # pixels at most
RESULT_SIDE = 1024  # of the preview that stays
SOMETHING = 0.05  # difference from the background that counts
KEPT = 8  # unfinished states, the newest


class Progress:
    """The node's bar, with a picture and the time left, and the place where an interruption is noticed."""

    def __init__(self, node_id: str | None, total: int, what: str) -> None:
        self.bar = comfy.utils.ProgressBar(total)
        self.node_id, self.total, self.what = node_id, total, what
        self._shown = 0.0
        self._begun, self._done = time.monotonic(), 0

    def update(self, step: int, picture: Tensor | None = None, seconds_left: float | None = None) -> None:
        """step: of `total`; picture: [H, W, 3] in 0..1."""
        self._done = step
        preview = None
        now = time.monotonic()
        if now - self._shown >= PREVIEW_SECONDS or step >= self.total:
            self._shown = now
            if picture is not None:
                preview = ("JPEG", to_pil(picture.detach().float().cpu()), PREVIEW_SIDE)
            if seconds_left is not None:
                say(self.node_id, f"{self.what}: step {step} of {self.total}, {_clock(seconds_left)} left")
        self.bar.update_absolute(step, self.total, preview)
        comfy.model_management.throw_exception_if_processing_interrupted()

    def close(self, finished: bool) -> None:
        """The last line on the node, in place of the time that was left."""
        spent = _clock(time.monotonic() - self._begun)
        if finished:
            say(self.node_id, f"{self.what}: done in {spent}")
        else:
            say(self.node_id, f"{self.what}: stopped at step {self._done} of {self.total}; queue it again to go on")


class _Listening(TorchFunctionMode):
    """Notices an interruption before any operation on tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        comfy.model_management.throw_exception_if_processing_interrupted()
        return func(*args, **(kwargs or {}))


def heard_inside(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """For calls of a network: on a processor one may take minutes, and so an interruption is noticed inside of it."""
    return _Listening() if device.type == "cpu" else contextlib.nullcontext()


def say(node_id: str | None, text: str) -> None:
    """A line of text on the node; it stays there until another takes its place."""
    if node_id is None:
        return
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None and hasattr(server, "send_progress_text"):
        server.send_progress_text(text, node_id)


def show_result(views: Tensor) -> None:
    """The four sides of a result [4, H, W, 3] as the node's last preview: a canvas goes on showing that in place of
    what the node hands over, and it would be the picture of some step. All are cut to what has somebody in it."""
    views = _around_somebody(views.cpu())
    tall = views.shape[1] > 1.3 * views.shape[2]
    sheet = contact_sheet(views, list(VIEW_AZIMUTHS), columns=4 if tall else 2)
    comfy.utils.ProgressBar(1).update_absolute(1, 1, ("JPEG", to_pil(sheet), RESULT_SIDE))


def _around_somebody(views: Tensor) -> Tensor:
    """The part of pictures [B, H, W, 3] where any of them is not of the colour in its corner, and a little more."""
    differs = ((views - views[:, :1, :1]).abs().amax(-1) > SOMETHING).any(0)
    if not bool(differs.any()):
        return views
    height, width = differs.shape
    rows, columns = differs.any(1).nonzero().flatten(), differs.any(0).nonzero().flatten()
    margin = max(height, width) // 40
    top, bottom = max(int(rows[0]) - margin, 0), min(int(rows[-1]) + margin, height - 1)
    left, right = max(int(columns[0]) - margin, 0), min(int(columns[-1]) + margin, width - 1)
    return views[:, top : bottom + 1, left : right + 1]


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d} min" if whole >= 60 else f"{whole} s"


def unfinished_file(kind: str, node_id: str | None, prompt: Mapping[str, Any] | None, start: Any) -> Path:
    """Where the state of an interrupted run waits for the same node to be queued again.

    The name is made of everything that the node depends on: the part of the graph before it, and the state it starts
    from. It is in the output folder, so that it outlives the server and can be opened with HumanNorm Load State.
    """
    digest = hashlib.sha256()
    if prompt is not None and str(node_id) in prompt:
        digest.update(_digest_before(prompt, str(node_id), {}).encode())
    for tensor in _tensors(start):
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    folder = Path(folder_paths.get_output_directory()) / "humannorm" / "unfinished"
    return folder / f"{kind}_{digest.hexdigest()[:16]}.safetensors"


def forget(unfinished: Path) -> None:
    """Delete the state of a run that is done; of the others keep the newest only."""
    unfinished.unlink(missing_ok=True)
    files = sorted(unfinished.parent.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    for path in files[:-KEPT]:
        path.unlink(missing_ok=True)


def _digest_before(prompt: Mapping[str, Any], node_id: str, known: dict[str, str]) -> str:
    """Digest of the graph that a node's result depends on, without the node ids of one editing session."""
    if node_id not in known:
        node = prompt[node_id]

        def value(entry: Any) -> Any:
            if isinstance(entry, list) and len(entry) == 2 and str(entry[0]) in prompt:
                return [_digest_before(prompt, str(entry[0]), known), entry[1]]
            return entry

        inputs = {name: value(entry) for name, entry in node.get("inputs", {}).items()}
        text = json.dumps([node["class_type"], inputs], sort_keys=True, default=str)
        known[node_id] = hashlib.sha256(text.encode()).hexdigest()
    return known[node_id]


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in a state, in a fixed order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, torch.nn.Module):
        return list(value.state_dict().values())
    if isinstance(value, Mapping):
        return [tensor for name in sorted(value) for tensor in _tensors(value[name])]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    if hasattr(value, "__dataclass_fields__"):
        return [tensor for name in value.__dataclass_fields__ for tensor in _tensors(getattr(value, name))]
    return []
