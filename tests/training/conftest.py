"""A small dataset of balls in place of people."""

from __future__ import annotations

import json

import numpy as np
import pytest


@pytest.fixture
def people_shards(tmp_path, write_shards):
    """Writes shards of 12 shots (4 people, the last held out) at 32 pixels; returns the folder."""

    def write(shards: int, folder=None, size: int = 32):
        return write_shards(shards, tmp_path / "people" if folder is None else folder, size)

    return write


@pytest.fixture(scope="session")
def write_shards():
    """The same, for tests that share a folder."""

    def write(shards: int, folder, size: int):
        folder.mkdir(exist_ok=True)
        generator = np.random.default_rng(0)
        down, across = np.mgrid[:size, :size] / size - 0.5
        for shard in range(shards):
            pictures = {"normal": [], "color": [], "depth": [], "mask": []}
            lines = []
            for shot in range(12):
                radius = generator.uniform(0.2, 0.4)
                inside = down**2 + across**2 < radius**2
                height = np.sqrt(np.clip(1 - (down**2 + across**2) / radius**2, 0, 1))
                normal = np.stack([across / radius, -down / radius, height], -1) / 2 + 0.5
                pictures["normal"].append(normal * inside[..., None])
                color = np.ones((size, size, 3))
                color[inside] = (0.8, 0.1, 0.1) if shot % 2 else (0.1, 0.1, 0.8)
                pictures["color"].append(color)
                pictures["depth"].append(height * inside)
                pictures["mask"].append(inside.astype(float))
                view = ("front", "left", "back", "right")[shot % 4]
                lines.append(
                    {
                        "person": f"person{shard * 4 + shot // 3:06d}",
                        "split": "held_out" if shot >= 9 else "train",
                        "attributes": None,
                        "caption": f"a {'red' if shot % 2 else 'blue'} ball",
                        "part": "full" if shot % 3 else "head",
                        "view": view,
                    }
                )
            for name, images in pictures.items():
                np.save(folder / f"{name}_{shard:05d}.npy", (np.stack(images).clip(0, 1) * 255).astype(np.uint8))
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / f"shots_{shard:05d}.jsonl").write_text(text, encoding="utf-8")
        return folder

    return write


WORN = {
    "age": "young", "build": "slim", "sex": "woman", "skin": "dark", "hair_style": "bald head", "hair_colour": None,
    "top": "t-shirt", "top_colour": "red", "bottom": "jeans", "bottom_colour": "light blue", "shoes": "sneakers",
    "shoes_colour": "white", "hat": None, "hat_colour": None, "pose": "standing",
}  # fmt: skip


@pytest.fixture
def worn():
    """What a description says of somebody."""
    return WORN


@pytest.fixture
def add_hints():
    """Describes the balls of a small dataset as people and gives them hints; returns its folder."""

    def add(folder):
        for lines in sorted(folder.glob("shots_*.jsonl")):
            shots = [json.loads(line) for line in lines.read_text().splitlines()]
            lines.write_text("".join(json.dumps({**shot, "attributes": WORN}) + "\n" for shot in shots))
            name = lines.stem.removeprefix("shots_")
            mask = np.load(folder / f"mask_{name}.npy")
            np.save(folder / f"label_{name}.npy", (3 * (mask > 127)).astype(np.uint8))
            for value, kind in ((100, "start"), (200, "body")):
                np.save(folder / f"{kind}_{name}.npy", np.full((*mask.shape, 3), value, dtype=np.uint8))
        return folder

    return add


@pytest.fixture
def hinted_shards(people_shards, add_hints):
    """The small dataset with hints."""
    return add_hints(people_shards(shards=2))
