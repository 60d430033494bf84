"""Types enforced while tests run, and what every test may use."""

from __future__ import annotations

import dataclasses
import gc
import math
import os
import runpy
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Read when torch is loaded: threads that wait sleep, as the command's do (`humannorm.processor`, which must not be
# imported before the hook below). Beside other work the tests take many times as long with threads that spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")

import torch
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook
from torch import Tensor

if TYPE_CHECKING:
    from humannorm.request import HumanSettings

# Every function of the library is checked against its annotations (shapes, dtypes, classes) while tests run. The hook
# must be in place before the first `import humannorm...` of any test module.
# The conf admits an int where a float is annotated (PEP 484).
install_import_hook("humannorm", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


class _KernelModules(PathFinder):
    """Leaves `warp_*` modules alone: Warp reads a kernel's annotations itself, and they are no Python types."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):  # type: ignore[no-untyped-def]
        is_kernel_module = fullname.startswith("humannorm.") and fullname.rpartition(".")[2].startswith("warp_")
        return super().find_spec(fullname, path, target) if is_kernel_module else None


sys.meta_path.insert(0, _KernelModules)

torch.set_num_threads(min(torch.get_num_threads(), 2))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m device`: the tests of kernels, which take the fixture of that name. `few`: the rest of a table is slow."""
    cases: Counter[str] = Counter()
    for item in items:
        if "device" in getattr(item, "fixturenames", ()):
            item.add_marker("device")
        few = item.get_closest_marker("few")
        if few is not None:
            name = item.nodeid.partition("[")[0]
            cases[name] += 1
            if cases[name] > few.args[0]:
                item.add_marker("slow")


def pytest_collection_finish() -> None:
    """What the imports of all tests have made stays: the garbage collector need not look at it again and again."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def small_scale() -> Iterator[None]:
    """Dressed starts of a fiftieth of the faces, held hands that are marched with fewer still, turntables of four
    frames: what a test looks at is seen on them too."""
    with pytest.MonkeyPatch.context() as patch:
        if "humannorm.geometry" in sys.modules:  # what no test imports is not worth importing for this
            patch.setattr("humannorm.geometry.outfits.RESOLUTION", 96)
            patch.setattr("humannorm.geometry.holding.FINGERS", 128)
            patch.setattr("humannorm.export.showing.FILM_FRAMES", 4)
        yield


@pytest.fixture
def as_user() -> Iterator[None]:
    """Switch the annotation checks off, so that a bad input meets the library's own errors, as a user's would."""
    jaxtyping_config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture
def run_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs a program's text, or its file, in the test's folder with these words; returns the names that it leaves."""

    def run(program: str | Path, *words: str) -> dict[str, Any]:
        if isinstance(program, str):
            file = tmp_path / "program.py"
            file.write_text(program, encoding="utf-8")
        else:
            file = program
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(file), *words])
        return runpy.run_path(str(file), run_name="__main__")

    return run


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where kernels are tested, beside their twins on the CPU: HUMANNORM_TEST_DEVICE, else CUDA where there is some."""
    named = os.environ.get("HUMANNORM_TEST_DEVICE", "auto")
    chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if named == "auto" else named)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        pytest.fail(f"HUMANNORM_TEST_DEVICE: expected a device that torch sees, got {named!r}")
    return chosen


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Diffusers folders of tiny random Stable Diffusion 1.5-shaped models with a ControlNet, by prediction type."""
    from diffusers import AutoencoderKL

    from humannorm.training.config import TextConfig, UnetConfig
    from humannorm.training.diffusion import SCHEDULE, build_controlnet, build_unet, save_folder
    from humannorm.training.text import build_text_encoder, train_tokenizer

    made: dict[str, Path] = {}

    def make(prediction_type: str) -> Path:
        if prediction_type in made:
            return made[prediction_type]
        from transformers import CLIPTokenizer

        folder = tmp_path_factory.mktemp(f"sd_{prediction_type}")
        text = TextConfig(vocabulary=600, hidden=32, layers=1, heads=2)
        torch.manual_seed(0)
        train_tokenizer(["a young man in a red t-shirt, front view"] * 10, folder / "tokenizer", text)
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(32,) * 4,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=8,
        )
        unet = build_unet(UnetConfig(channels=(32, 64), head_channels=16), text, latent_size=8)
        controlnet = build_controlnet(unet, 8)
        for parameter in controlnet.parameters():  # a fresh ControlNet says nothing: make it speak
            torch.nn.init.normal_(parameter, std=0.05)
        save_folder(
            folder,
            unet=unet,
            text_encoder=build_text_encoder(tokenizer, text),
            tokenizer=tokenizer,
            vae=vae,
            scheduler_config={**SCHEDULE, "prediction_type": prediction_type},
            controlnet=controlnet,
        )
        made[prediction_type] = folder
        return folder

    return make


@pytest.fixture
def published_sd(tiny_sd: Callable[[str], Path], tmp_path: Path) -> Path:
    """The published layout: three diffusers folders and a ControlNet of its own, all of the tiny model that predicts
    eps."""
    from humannorm.guidance import PUBLISHED_FOLDERS

    source, folder = tiny_sd("epsilon"), tmp_path / "published"
    for name in PUBLISHED_FOLDERS[:3]:
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("controlnet"))
    shutil.copytree(source / "controlnet", folder / PUBLISHED_FOLDERS[3])
    return folder


@pytest.fixture(scope="session")
def autoguided_sd(tiny_sd: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny v-prediction model with a thinner weak UNet beside its UNet."""
    from diffusers import UNet2DConditionModel

    folder = tmp_path_factory.mktemp("autoguided") / "model"
    shutil.copytree(tiny_sd("v_prediction"), folder)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    torch.manual_seed(1)
    weak = UNet2DConditionModel.from_config({**unet.config, "block_out_channels": (16, 32)})
    weak.save_pretrained(folder / "weak_unet")
    return folder


class BelievesIn:
    """A denoiser on plain pixels that is certain of one picture [48,48,3] for each prompt, whatever it is shown."""

    timesteps = 100
    resolution = 48
    hint_channels = 3

    def __init__(self, picture_for: Callable[[str], Tensor]) -> None:
        self.picture_for = picture_for
        self.prompts: list[str] = []
        self.controls: list[Tensor | None] = []
        self.calls = 0

    def sigma(self, timestep: Tensor) -> Tensor:
        return 0.05 * 1.05**timestep

    def condition(
        self,
        prompts: Sequence[str],
        *,
        guidance_scale: float,
        negative: str = "",
        control: Tensor | None = None,
        control_scale: float = 1.0,
    ) -> Any:
        self.prompts += prompts
        self.controls.append(control)
        return self.encode_images(torch.stack([self.picture_for(prompt) for prompt in prompts]))

    def denoise(self, x: Tensor, sigma: Tensor, condition: Any) -> Tensor:
        self.calls += 1
        return condition

    def encode_images(self, images: Tensor) -> Tensor:
        from humannorm.images import to_network

        return to_network(images)

    def decode(self, latents: Tensor) -> Tensor:
        from humannorm.images import from_network

        return from_network(latents)


class Sick:
    """Such a guide that falls ill at its request number `at`, for good if lasting; or the user interrupts there."""

    timesteps = BelievesIn.timesteps
    resolution = BelievesIn.resolution
    hint_channels = BelievesIn.hint_channels

    def __init__(self, guide: BelievesIn, at: int, *, lasting: bool = False, interrupt: bool = False) -> None:
        self.guide, self.at, self.lasting, self.interrupt = guide, at, lasting, interrupt
        self.sigma, self.condition = guide.sigma, guide.condition
        self.encode_images, self.decode = guide.encode_images, guide.decode

    def denoise(self, x: Tensor, sigma: Tensor, condition: Any) -> Tensor:
        belief = self.guide.denoise(x, sigma, condition)
        ill = self.guide.calls >= self.at if self.lasting else self.guide.calls == self.at
        if ill and self.interrupt:
            raise KeyboardInterrupt
        return belief * math.nan if ill else belief


@pytest.fixture
def believes_in() -> type[BelievesIn]:
    return BelievesIn


@pytest.fixture
def sick() -> type[Sick]:
    return Sick


@pytest.fixture(scope="session")
def tiny_human() -> HumanSettings:
    """Settings of a whole human, every stage as short and coarse as it can be."""
    from humannorm.export import ExportSettings
    from humannorm.fields.hash_grid import GridLayout
    from humannorm.geometry.fields import HashFieldSettings
    from humannorm.geometry.fitting import FitSettings
    from humannorm.geometry.settings import QUICK as SCULPT
    from humannorm.request import HumanSettings, StartSettings
    from humannorm.schedules import constant
    from humannorm.texture.fields import HashColorSettings
    from humannorm.texture.settings import QUICK as PAINT

    layout = GridLayout(levels=6, log2_table=13, base=8, growth=1.4)
    assert SCULPT.targets is not None
    sculpting = dataclasses.replace(
        SCULPT.with_steps(5),
        targets=dataclasses.replace(SCULPT.targets, views=4, refresh_every=2, level=constant(0.9), stride=400),
        views=1,
        render_size=32,
        field=HashFieldSettings(layout, hidden=16),
        fit=FitSettings(steps=60, points=2048, pool=20_000),
        active_levels=constant(6),
        resolution=constant(40),
    )
    painting = dataclasses.replace(
        PAINT.with_steps(6),
        coarse_steps=2,
        views=1,
        perceptual_weight=1.0,
        render_size=32,
        field=HashColorSettings(layout, hidden=16),
        fine_views=3,
        target_stride=400,
    )
    export = ExportSettings(faces=800, texture_size=64, height_m=1.75)
    return HumanSettings(sculpting, painting, export, StartSettings(dressed=False))


@pytest.fixture
def tiny_quick(tiny_human: HumanSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset quick from a sentence to the files, every stage as short and coarse as it can be."""
    from humannorm.geometry import settings as geometry_settings
    from humannorm.texture import multiview

    quick = multiview.QUICK
    walk = dataclasses.replace(quick.walk, steps=2, batch=2)
    painting = dataclasses.replace(quick, walk=walk, rings=multiview.plain_rings(4, (0.0,)), texture_size=64)
    monkeypatch.setitem(geometry_settings.PRESETS, "quick", tiny_human.geometry)  # type: ignore[arg-type]
    monkeypatch.setitem(multiview.MULTIVIEW_PRESETS, "quick", painting)  # type: ignore[arg-type]
