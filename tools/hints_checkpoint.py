"""Keeps the ControlNet of an unfinished `train aligned --controlled-normals` run in a few megabytes, and gives it back.

    python tools/hints_checkpoint.py pack RUN/model/controlnet checkpoints/hints_controlnet.safetensors
    python tools/hints_checkpoint.py unpack checkpoints/hints_controlnet.safetensors DIR

What it has in common with the bundled ControlNet is left out; of the rest, matrices and convolutions are kept in rank
48 (held-out loss 0.0983 before and after; 0.104 in rank 24), the hint's embedding whole. DIR is then the bundled model
with that ControlNet, for `--base`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import ControlNetModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from humannorm.models import bundled_folder

RANK = 48
EMBEDDING = "controlnet_cond_embedding."  # wider than the bundled one's, so there is nothing to subtract


def pack(controlnet: Path, file: Path) -> None:
    trained, bundled = ControlNetModel.from_pretrained(controlnet), _bundled()
    kept: dict[str, Tensor] = {}
    for name, value in trained.state_dict().items():
        change = value if name.startswith(EMBEDDING) else value - bundled[name]
        if name.startswith(EMBEDDING) or change.ndim < 2 or min(change.flatten(1).shape) <= 2 * RANK:
            kept[name] = change
            continue
        left, strengths, right = torch.linalg.svd(change.flatten(1), full_matrices=False)
        kept[f"{name}.up"], kept[f"{name}.down"] = left[:, :RANK] * strengths[:RANK], right[:RANK]
    config = trained.config
    facts = {
        "conditioning_channels": str(config.conditioning_channels),
        "widths": " ".join(map(str, config.conditioning_embedding_out_channels)),
    }
    save_file({name: value.half().contiguous() for name, value in kept.items()}, file, facts)


def unpack(file: Path, out: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        facts = opened.metadata()
        kept = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
    config = {
        **ControlNetModel.load_config(bundled_folder() / "controlnet"),
        "conditioning_channels": int(facts["conditioning_channels"]),
        "conditioning_embedding_out_channels": tuple(map(int, facts["widths"].split())),
    }
    controlnet, bundled, state = ControlNetModel.from_config(config), _bundled(), {}
    for name, place in controlnet.state_dict().items():
        change = kept[name] if name in kept else (kept[f"{name}.up"] @ kept[f"{name}.down"]).view_as(place)
        state[name] = change if name.startswith(EMBEDDING) else bundled[name] + change
    controlnet.load_state_dict(state)
    shutil.copytree(bundled_folder(), out, ignore=shutil.ignore_patterns("controlnet"))
    controlnet.half().save_pretrained(out / "controlnet")


def _bundled() -> dict[str, Tensor]:
    state: dict[str, Tensor] = ControlNetModel.from_pretrained(bundled_folder() / "controlnet").float().state_dict()
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    {"pack": pack, "unpack": unpack}[args.what](args.source, args.target)


if __name__ == "__main__":
    main()
