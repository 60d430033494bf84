"""A folder of pictures with a manifest: what a model drew, real renders beside it, and what the judges said.

GALLERY/manifest.json       one entry per picture (`Picture`)
GALLERY/<id>.png
GALLERY/judgements.json     written by judges.py: pose and face of each picture
GALLERY/features.npz        written by judges.py
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError
from humannorm.images import load_png, save_png

__all__ = ["Gallery", "Judgements", "Picture", "find_judge", "run_judges"]

JUDGES_SCRIPT = Path(__file__).with_name("judges.py")


@dataclass(frozen=True)
class Picture:
    """One picture: whence, of what, and which judges are to see it."""

    id: str
    # "model"; "render": a held-out person; "reference": those that fid64 compares with; "control": renders in pieces;
    # "original": held-out shots of any part; "vae" and "vae_any": the VAE's copies of "render" and "original"
    source: str
    kind: str  # "normal", "color" or "shading"
    part: str  # "full" or "head"
    azimuth: float  # degrees: requested of a model, known of a render
    judges: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)  # what the caption says the person wears
    prompt: str = ""
    pair: str = ""  # id of the normal map a colour picture had to follow, or of the original of a reconstruction
    seen: dict[str, Any] = field(default_factory=dict)  # `collect.seen_by_label`, where labels are known

    @property
    def file(self) -> str:
        return f"{self.id}.png"

    @property
    def on_white(self) -> bool:
        """Whether the judges see it laid on white: bodies on black are missed, faces are not."""
        return self.kind == "normal" and self.part == "full"


@dataclass
class Gallery:
    """Pictures are added one by one; the manifest is written by `save`."""

    folder: Path
    pictures: list[Picture] = field(default_factory=list)

    def add(self, picture: Picture, image: Float[Tensor, "H W 3"]) -> None:
        save_png(self.folder / picture.file, image)
        self.pictures.append(picture)

    def save(self) -> None:
        entries = [
            dataclasses.asdict(picture) | {"file": picture.file, "on_white": picture.on_white}
            for picture in self.pictures
        ]
        text = json.dumps({"pictures": entries}, indent=1)
        (self.folder / "manifest.json").write_text(text, encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Gallery:
        path = folder / "manifest.json"
        if not path.is_file():
            raise InputError(f"{path}: expected the manifest of a gallery, got no such file")
        entries = json.loads(path.read_text(encoding="utf-8"))["pictures"]
        names = {f.name for f in dataclasses.fields(Picture)}
        kept = [{key: value for key, value in entry.items() if key in names} for entry in entries]
        return Gallery(folder, [Picture(**{**entry, "judges": tuple(entry["judges"])}) for entry in kept])

    def image(self, id: str) -> Float[Tensor, "H W 3"]:
        return load_png(self.folder / f"{id}.png")[..., :3]

    def select(self, **wanted: str) -> list[Picture]:
        """Pictures whose fields equal all of `wanted`."""
        return [p for p in self.pictures if all(getattr(p, name) == value for name, value in wanted.items())]


@dataclass(frozen=True)
class Judgements:
    """What the judges said, by picture id."""

    said: dict[str, dict[str, Any]]
    features: dict[str, Float[Tensor, " D"]]

    @staticmethod
    def load(folder: Path) -> Judgements:
        path = folder / "judgements.json"
        if not path.is_file():
            raise InputError(f"{path}: expected what the judges wrote, got no such file; run judges.py on {folder}")
        said = json.loads(path.read_text(encoding="utf-8"))["judgements"]
        with np.load(folder / "features.npz", allow_pickle=False) as archive:
            features = dict(zip(archive["ids"].tolist(), torch.from_numpy(archive["features"]), strict=True))
        return Judgements(said, features)

    def pose(self, id: str) -> dict[str, Any] | None:
        return self.said[id]["pose"]

    def face(self, id: str) -> float | None:
        return self.said[id]["face"]


def find_judge(python: str) -> str:
    """The judges' interpreter as a path, tried before any long work starts."""
    found = shutil.which(python)
    if found is None:
        raise InputError(
            f"--judge: expected the python of the judges' environment (docs/evaluation.md makes it), got {python!r}"
        )
    probe = subprocess.run([found, str(JUDGES_SCRIPT), "--check"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        last = (probe.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"--judge: expected an environment with the judges (docs/evaluation.md), got {found}: {last}")
    return found


def run_judges(gallery: Path, python: str) -> Judgements:
    """Judge a gallery with the interpreter of the judges' environment."""
    result = subprocess.run([python, str(JUDGES_SCRIPT), str(gallery)], check=False)  # shows its progress itself
    if result.returncode != 0:
        raise InputError(f"--judge: expected judgements of {gallery}, but {python} ended with {result.returncode}")
    return Judgements.load(gallery)
