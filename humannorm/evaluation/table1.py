"""The measures of the paper's table 1, FID of renders against pictures of a plain model and CLIP score, and VQAScore.

All networks come from files on disk; nothing is fetched. Inception is torch-fidelity's, with the weights of the
original release in its own file format; CLIP and the model that is asked are any of transformers' folders. Features and
scores are kept beside the pictures' names alone: a run that was cut off draws nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError, check_tensor
from humannorm.evaluation.frechet import frechet_distance
from humannorm.images import load_png

__all__ = [
    "PAPER",
    "PROMPTS",
    "ClipScorer",
    "InceptionFeatures",
    "Table1",
    "VqaScorer",
    "table1_of",
]

PROMPTS = Path(__file__).with_name("table1_prompts.txt")
"""Thirty of our own, one a line."""
PAPER = {"FID": 92.5, "CLIP": 31.70}
"""What the paper reports for HumanNorm, of thirty prompts of its own."""
FEATURES = "2048"  # of Inception v3's last pooling
BATCH = 16
QUESTION = 'Does this figure show "{}"? Please answer yes or no.'
"""VQAScore's (Lin et al. 2024, arXiv 2404.01291); the score is the probability of the answer `ANSWER`."""
ANSWER = "Yes"


@runtime_checkable
class Scorer(Protocol):
    def __call__(self, pictures: Float[Tensor, "B H W 3"], text: str) -> Float[Tensor, " B"]: ...


@runtime_checkable
class Extractor(Protocol):
    def __call__(self, pictures: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]: ...


@dataclass(frozen=True)
class Table1:
    """One row: of how many prompts, renders and pictures of the plain model."""

    fid: float
    clip: float
    prompts: int
    renders: int
    plain: int
    vqa: float | None = None  # where a model was given

    def text(self) -> str:
        """The row beside the paper's, in Markdown."""
        rows = [
            "| | FID (lower is better) | CLIP score (higher) | prompts | renders | plain pictures |",
            "|---|---|---|---|---|---|",
            f"| this run | {self.fid:.1f} | {self.clip:.2f} | {self.prompts} | {self.renders} | {self.plain} |",
            f"| paper, its own prompts | {PAPER['FID']:.1f} | {PAPER['CLIP']:.2f} | 30 | 3600 | 3600 |",
        ]
        if self.vqa is not None:
            rows += ["", f"VQAScore (higher is better; the paper has none): {self.vqa:.3f}"]
        return "\n".join(rows)


class InceptionFeatures:
    """Inception v3's 2048 pooled features, as every FID takes them (Heusel et al. 2017)."""

    def __init__(self, weights: Path, device: torch.device | str = "cpu") -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError:
            raise InputError(
                "inception: expected torch-fidelity to be installed (pip install torch-fidelity)"
            ) from None
        if not weights.is_file():
            raise InputError(
                f"{weights}: expected the file of Inception's weights in torch-fidelity's form, got no such file"
            )
        try:
            self.network = FeatureExtractorInceptionV3(
                "inception-v3-compat", [FEATURES], feature_extractor_weights_path=str(weights)
            )
        except Exception as error:  # torch raises whatever a broken file leads it to
            raise InputError(f"{weights}: expected weights of Inception, got a file that fails: {error}") from error
        self.network.eval().to(device)
        self.device = torch.device(device)

    @torch.no_grad()
    def __call__(self, pictures: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        bytes_ = (pictures.clamp(0, 1) * 255).round().to(torch.uint8).movedim(-1, 1).to(self.device)
        return self.network(bytes_)[0].float().cpu()


class ClipScorer:
    """100 max(cos, 0) of picture and text by a CLIP (Hessel et al. 2021, with torchmetrics' factor)."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        from transformers import CLIPModel, CLIPProcessor

        if not folder.is_dir():
            raise InputError(f"{folder}: expected a folder with a CLIP of transformers, got no such folder")
        try:
            self.network: Any = CLIPModel.from_pretrained(folder, local_files_only=True)
            self.processor: Any = CLIPProcessor.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers raises whatever a broken file leads it to
            raise InputError(f"{folder}: expected a CLIP of transformers, got files that fail: {error}") from error
        self.network.eval().to(device)
        self.device = device

    @torch.no_grad()
    def __call__(self, pictures: Float[Tensor, "B H W 3"], text: str) -> Float[Tensor, " B"]:
        images = [(picture.clamp(0, 1) * 255).round().to(torch.uint8).movedim(-1, 0) for picture in pictures]
        given = self.processor(text=[text], images=images, return_tensors="pt", padding=True, truncation=True)
        found = self.network(**{name: value.to(self.device) for name, value in given.items()})
        cosine = torch.nn.functional.cosine_similarity(found.image_embeds, found.text_embeds)
        return (100 * cosine).clamp_min(0).float().cpu()


class VqaScorer:
    """The probability that a model which sees pictures answers yes to whether one shows the text (VQAScore).

    folder: of transformers, with a processor: any model for pictures and text to text, such as BLIP-2, InstructBLIP or
    LLaVA. Scores of different models do not compare.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        if not folder.is_dir():
            raise InputError(f"{folder}: expected a folder with a model that answers questions, got no such folder")
        try:
            self.network: Any = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
            self.processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
            tokenizer = self.processor.tokenizer
            self.answer = int(tokenizer(ANSWER, add_special_tokens=False).input_ids[0])
        except Exception as error:  # transformers raises whatever a broken file leads it to
            raise InputError(
                f"{folder}: expected a model of transformers for pictures and text, got files that fail: {error}"
            ) from error
        self.network.eval().to(device)
        self.device = device

    @torch.no_grad()
    def __call__(self, pictures: Float[Tensor, "B H W 3"], text: str) -> Float[Tensor, " B"]:
        images = [(picture.clamp(0, 1) * 255).round().to(torch.uint8).movedim(-1, 0) for picture in pictures]
        given = self.processor(text=[self._asked(text)] * len(images), images=images, return_tensors="pt")
        inputs = {name: value.to(self.device) for name, value in given.items()}
        place = -1  # whose logits are the answer's first word
        config = getattr(self.network.config, "text_config", self.network.config)
        if getattr(config, "is_encoder_decoder", False):
            begin = torch.full((len(images), 1), config.decoder_start_token_id, device=self.device)
            inputs, place = {**inputs, "decoder_input_ids": begin}, 0
        logits = self.network(**inputs).logits[:, place].float()
        return logits.softmax(-1)[:, self.answer].cpu()

    def _asked(self, text: str) -> str:
        """The question in the model's own form of a talk, where it has one."""
        question = QUESTION.format(text)
        if getattr(self.processor, "chat_template", None):
            talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
            return str(self.processor.apply_chat_template(talk, add_generation_prompt=True))
        image = getattr(self.processor, "image_token", None)
        return f"{image} {question}" if isinstance(image, str) else question


def table1_of(
    prompts: Sequence[str],
    renders: Sequence[Sequence[Path]],
    plain: Sequence[Sequence[Path]],
    features: Extractor,
    score: Scorer,
    vqa: Scorer | None = None,
) -> Table1:
    """The row of pictures on disk: for each prompt its renders, and what the plain model drew for it.

    FID is of all renders against all plain pictures; the scores are means over all renders, each with its prompt.
    """
    if not len(prompts) == len(renders) == len(plain):
        raise InputError(
            f"renders, plain: expected pictures for each of {len(prompts)} prompts, got {len(renders)} and {len(plain)}"
        )
    of_renders = features_of([path for paths in renders for path in paths], features)
    of_plain = features_of([path for paths in plain for path in paths], features)
    fid, clip = frechet_distance(of_renders, of_plain), mean_score(prompts, renders, score)
    asked = None if vqa is None else mean_score(prompts, renders, vqa)
    return Table1(fid, clip, len(prompts), len(of_renders), len(of_plain), asked)


def mean_score(prompts: Sequence[str], renders: Sequence[Sequence[Path]], score: Scorer) -> float:
    """Over all renders, each with its prompt."""
    every = zip(prompts, renders, strict=True)
    return float(torch.cat([score(batch, prompt) for prompt, paths in every for batch in batches(paths)]).mean())


def features_of(paths: Sequence[Path], features: Extractor) -> Float[Tensor, "N D"]:
    """Of all pictures, batch by batch."""
    if not paths:
        raise InputError("pictures: expected at least one, got none")
    return torch.cat([features(batch) for batch in batches(paths)])


def batches(paths: Sequence[Path]) -> Iterable[Float[Tensor, "B H W 3"]]:
    """Pictures in groups of one size each."""
    for first in range(0, len(paths), BATCH):
        pictures = [load_png(path)[..., :3] for path in paths[first : first + BATCH]]
        for picture, path in zip(pictures, paths[first : first + BATCH], strict=True):
            check_tensor(str(path), picture, "H W 3")
            if picture.shape != pictures[0].shape:
                raise InputError(f"{path}: expected a picture of the size of its neighbours, got another")
        yield torch.stack(pictures)
