"""Draw eight poses as shapes and as the stick figures of their skeletons, and hold those against the pose judge.

    python tools/make_openpose_sheet.py --out DIR [--judge PYTHON]

DIR/sheet_openpose.png has the pictures. With the judges' Python (docs/evaluation.md) it also prints how far the judge's
own landmarks lie from ours, in per cent of the person's height: of the limbs' joints that both see.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import torch
from torch import Tensor

from humannorm.body import POSES, Body, load_body
from humannorm.body.gait import GAITS
from humannorm.cameras import Cameras, orbit
from humannorm.controls import BODY_KEYPOINTS, Keypoints, body_keypoints, control_picture, hidden_left_out
from humannorm.images import contact_sheet, save_png
from humannorm.rendering.shaded import shaded_views
from humannorm.working_box import BODY_HEIGHT

SIZE = 512
AZIMUTHS = (0.0, 40.0)  # degrees: each pose from the front and from its left
JUDGES = Path(__file__).parents[1] / "humannorm" / "evaluation" / "judges.py"
# Ours and the judge's number of the same joint (MediaPipe's 33).
PAIRS = {
    "shoulder.L": 11, "shoulder.R": 12, "elbow.L": 13, "elbow.R": 14, "wrist.L": 15, "wrist.R": 16, "hip.L": 23,
    "hip.R": 24, "knee.L": 25, "knee.R": 26, "ankle.L": 27, "ankle.R": 28, "nose": 0,
}  # fmt: skip
CERTAIN = 0.5  # visibility from which the judge's landmark counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--judge", type=Path, metavar="PYTHON", help="of the judges' environment")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    cameras = orbit(AZIMUTHS)
    pictures: list[Tensor] = []
    labels: list[str] = []
    shown: dict[str, Keypoints] = {}
    for pose, body in bodies().items():
        mesh = body.to_mesh(normalized=False)
        shapes = shaded_views(mesh, cameras, SIZE)[1]
        sticks = control_picture("openpose", mesh, cameras, SIZE, body=body)
        shown[pose] = hidden_left_out(body_keypoints(body, cameras, SIZE), body, mesh, cameras, SIZE)
        for view, azimuth in enumerate(AZIMUTHS):
            save_png(args.out / f"shape_{pose}_{azimuth:g}.png", shapes[view])
            pictures += [shapes[view], sticks[view]]
            labels += [f"{pose} {azimuth:g}", ""]
    save_png(args.out / "sheet_openpose.png", contact_sheet(pictures, labels, 8))
    if args.judge is not None:
        report(args.out, args.judge, shown, cameras)


def bodies() -> dict[str, Body]:
    """Eight poses of the neutral adult in the working box."""
    found = {pose: load_body(pose=pose).in_working_box() for pose in POSES}
    standing = load_body(pose="standing")
    waving = GAITS["wave"](standing).rotations
    found["wave"] = standing.posed(waving[len(waving) // 2], "wave").in_working_box()
    return found


def report(folder: Path, judge: Path, shown: dict[str, Keypoints], cameras: Cameras) -> None:
    names = [(pose, view, f"shape_{pose}_{azimuth:g}") for pose in shown for view, azimuth in enumerate(AZIMUTHS)]
    pictures = [{"id": name, "file": f"{name}.png", "on_white": False, "judges": ["pose"]} for _, _, name in names]
    (folder / "manifest.json").write_text(json.dumps({"pictures": pictures}), encoding="utf-8")
    subprocess.run([str(judge), str(JUDGES), str(folder)], check=True)
    said = json.loads((folder / "judgements.json").read_text(encoding="utf-8"))["judgements"]
    height = pixels_tall(cameras)
    every: list[float] = []
    for pose, view, name in names:
        landmarks = (said[name]["pose"] or {}).get("landmarks")
        if landmarks is None:
            print(f"{name}: the judge sees nobody")
            continue
        away = distances(shown[pose], view, landmarks)
        every += away.values()
        worst = max(away, key=lambda key: away[key])
        mean = sum(away.values()) / len(away)
        most = 100 * away[worst] / height
        print(f"{name}: {100 * mean / height:.1f} % of height over {len(away)}, most {most:.1f} % at {worst}")
    mean = 100 * sum(every) / len(every) / height
    print(f"all: {mean:.2f} % of height over {len(every)} joints in {len(names)} pictures")


def distances(points: Keypoints, view: int, landmarks: list[list[float]]) -> dict[str, float]:
    """Pixels between ours and the judge's, of the joints that both see."""
    found = {}
    for name, number in PAIRS.items():
        at = BODY_KEYPOINTS.index(name)
        x, y, visibility = landmarks[number]
        if visibility >= CERTAIN and bool(points.body_seen[view, at]):
            found[name] = float((points.body[view, at] - torch.tensor([x * SIZE, y * SIZE])).norm())
    return found


def pixels_tall(cameras: Cameras) -> float:
    """Of somebody standing upright in the middle of the working box."""
    ends = torch.tensor([[0.0, BODY_HEIGHT / 2, 0.0], [0.0, -BODY_HEIGHT / 2, 0.0]])
    clip = cameras.clip_from_world(ends)[0]
    top, bottom = clip[:, 1] / clip[:, 3]
    return float(top - bottom) / 2 * SIZE


if __name__ == "__main__":
    main()
