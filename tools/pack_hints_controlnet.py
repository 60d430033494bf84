"""Puts the ControlNet of a `train aligned --controlled-normals` run beside the one of three channels it began as.

    python tools/pack_hints_controlnet.py RUN/model/controlnet MODEL

MODEL is a diffusers folder with that one in `controlnet/`, such as the bundled model; from then on it has both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from diffusers import ControlNetModel

from humannorm.guidance.hints_controlnet import save_hints_controlnet
from humannorm.models import HINTS_CONTROLNET


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("model", type=Path)
    args = parser.parse_args()
    trained, base = (ControlNetModel.from_pretrained(path) for path in (args.trained, args.model / "controlnet"))
    save_hints_controlnet(trained, base, args.model / HINTS_CONTROLNET)


if __name__ == "__main__":
    main()
