"""The paper's measures on pictures whose value is known, and the command with random weights to its end."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.evaluation.table1 import PROMPTS, QUESTION, ClipScorer, InceptionFeatures, VqaScorer, table1_of
from humannorm.images import save_png
from humannorm.prompts import read_prompts


def pictures(folder, count, seed=0, size=32):
    generator = torch.Generator().manual_seed(seed)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        save_png(path, torch.rand(size, size, 3, generator=generator))
    return paths


def mean_colors(batch: Tensor) -> Tensor:
    return batch.mean((1, 2))


def no_score(batch: Tensor, text: str) -> Tensor:
    return torch.full((len(batch),), float(len(text)))


def test_thirty_prompts_come_along():
    prompts = read_prompts(PROMPTS)
    assert len(prompts) == len(set(prompts)) == 30 and all(prompt.startswith("a") for prompt in prompts)


def test_a_set_is_at_no_distance_from_itself_and_scores_are_means(tmp_path):
    paths = [pictures(tmp_path / name, 20, seed) for seed, name in enumerate(("first", "second"))]
    row = table1_of(["a man", "a woman"], paths, paths, mean_colors, no_score)
    assert row.fid == pytest.approx(0.0, abs=1e-9) and row.clip == (5 + 7) / 2
    assert (row.prompts, row.renders, row.plain) == (2, 40, 40)
    assert "| this run | 0.0 | 6.00 | 2 | 40 | 40 |" in row.text() and "92.5 | 31.70" in row.text()
    with pytest.raises(InputError, match="expected pictures for each of 1 prompts, got 2 and 2"):
        table1_of(["a man"], paths, paths, mean_colors, no_score)


def test_a_shifted_gaussian_is_at_the_closed_form(tmp_path):
    """Features N(0, S) and N(shift, S): the distance is |shift|^2, whatever S; and twice the spread adds tr(S)."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 6, generator=generator, dtype=torch.float64) @ torch.randn(
        6, 6, generator=generator, dtype=torch.float64
    )
    shift = torch.tensor([3.0, -1.0, 0.5, 0.0, 2.0, 0.0], dtype=torch.float64)
    paths = pictures(tmp_path, 2, size=4)
    answers = iter([features, features + shift, features, 2 * features])

    def feature(batch: Tensor) -> Tensor:
        return next(answers)

    row = table1_of(["x"], [paths], [paths], feature, no_score)
    assert row.fid == pytest.approx(float(shift.square().sum()), rel=1e-6)
    row = table1_of(["x"], [paths], [paths], feature, no_score)
    spread = torch.cov(features.T).trace() + features.mean(0).square().sum()
    assert row.fid == pytest.approx(float(spread), rel=1e-6)


@pytest.fixture(scope="module")
def clip_folder(tiny_sd, tmp_path_factory):
    """A small random CLIP with a processor, as transformers saves one."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 600, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=16)
    CLIPModel(config).save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(tiny_sd("epsilon") / "tokenizer")
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


def test_clip_score_is_the_cosine_of_picture_and_text(clip_folder):
    from transformers import CLIPModel, CLIPProcessor

    score = ClipScorer(clip_folder)
    batch = torch.rand(3, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    found = score(batch, "a young man")
    model, processor = CLIPModel.from_pretrained(clip_folder), CLIPProcessor.from_pretrained(clip_folder)
    images = [(picture * 255).round().to(torch.uint8).permute(2, 0, 1) for picture in batch]
    given = processor(text=["a young man"], images=images, return_tensors="pt", padding=True)
    with torch.no_grad():
        out = model(**given)
    expected = (out.image_embeds @ out.text_embeds.T)[:, 0] * 100  # both of length one
    torch.testing.assert_close(found, expected.clamp_min(0), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(score(batch[1:2], "a young man"), found[1:2], rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def asking_folder(tmp_path_factory):
    """A small random LLaVA with a processor whose words are those of the question."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("asking")
    torch.manual_seed(0)
    question = 'Does this figure show " a man ? Please answer yes or no .'
    words = dict.fromkeys(["<unk>", "<pad>", "<image>", "Yes", "No", *question.split(), '"?'])
    plain = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "additional_special_tokens": ["<image>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, **special)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**small, image_size=32, patch_size=8)
    text = LlamaConfig(**small, vocab_size=len(tokenizer), pad_token_id=1)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=2, vision_feature_layer=-1)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    sees = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    options = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    LlavaProcessor(sees, tokenizer, **options, image_token="<image>").save_pretrained(folder)
    return folder


def test_vqa_score_is_the_probability_of_yes(asking_folder, tmp_path):
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    score = VqaScorer(asking_folder)
    batch = torch.rand(3, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    found = score(batch, "a man")
    model, processor = (kind.from_pretrained(asking_folder) for kind in (LlavaForConditionalGeneration, LlavaProcessor))
    images = [(picture * 255).round().to(torch.uint8).permute(2, 0, 1) for picture in batch]
    given = processor(text=["<image> " + QUESTION.format("a man")] * 3, images=images, return_tensors="pt")
    assert 0 not in given.input_ids  # every word of the question is known
    with torch.no_grad():
        expected = model(**given).logits[:, -1].softmax(-1)[:, processor.tokenizer.convert_tokens_to_ids("Yes")]
    torch.testing.assert_close(found, expected)
    paths = pictures(tmp_path, 2)
    row = table1_of(["a man"], [paths], [paths], mean_colors, no_score, score)
    assert (
        row.vqa is not None
        and 0 < row.vqa < 1
        and f"VQAScore (higher is better; the paper has none): {row.vqa:.3f}" in row.text()
    )


@pytest.mark.slow
def test_models_that_answer_nothing_are_refused(tmp_path, clip_folder):
    with pytest.raises(InputError, match="expected a folder with a model that answers questions"):
        VqaScorer(tmp_path / "nothing")
    with pytest.raises(InputError, match="expected a model of transformers for pictures and text, got"):
        VqaScorer(clip_folder)  # sees and reads, and says nothing


def test_files_that_are_none_are_refused(tmp_path, clip_folder):
    pytest.importorskip("torch_fidelity")
    with pytest.raises(InputError, match="expected the file of Inception's weights"):
        InceptionFeatures(tmp_path / "nothing.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match="expected weights of Inception, got a file that fails"):
        InceptionFeatures(tmp_path / "broken.pth")
    with pytest.raises(InputError, match="expected a folder with a CLIP"):
        ClipScorer(tmp_path / "nothing")
    with pytest.raises(InputError, match="expected a CLIP of transformers, got files that fail"):
        ClipScorer(tmp_path)


@pytest.mark.slow
def test_the_command_goes_to_its_end_with_random_weights(tiny_sd, clip_folder, tmp_path, capsys):
    """Two prompts, humans that are there already; a second run draws nothing again."""
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    trimesh = pytest.importorskip("trimesh")

    torch.manual_seed(0)
    original, torch.load = torch.load, lambda *args, **options: {}
    kind = inception.FeatureExtractorInceptionV3
    loads, kind.load_state_dict = kind.load_state_dict, lambda self, weights: None
    try:
        weights = kind("inception-v3-compat", ["2048"], feature_extractor_weights_path="none").state_dict()
    finally:
        torch.load, kind.load_state_dict = original, loads
    torch.save(weights, tmp_path / "inception.pth")
    (tmp_path / "prompts.txt").write_text("a man\na woman\n", encoding="utf-8")
    out = tmp_path / "out"
    for number in (1, 2):
        shape = trimesh.creation.box(extents=(0.5, 1.8, 0.4))
        shape.visual.vertex_colors = [[40 * number, 20 * at, 90, 255] for at in range(8)]
        path = out / "humans" / f"{number:02d}" / "human.glb"
        path.parent.mkdir(parents=True)
        shape.export(path)
    arguments = [
        "evaluate", "table1", "--prompts", str(tmp_path / "prompts.txt"), "--models", str(tiny_sd("epsilon")),
        "--inception", str(tmp_path / "inception.pth"), "--clip", str(clip_folder), "--views", "4", "--pictures", "2",
        "--steps", "1", "--size", "32", "--device", "cpu", "--out", str(out),
    ]  # fmt: skip
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert "| this run |" in first and "| 2 | 8 | 4 |" in first
    row = json.loads((out / "table1.json").read_text(encoding="utf-8"))
    assert row["fid"] >= 0 and 0 <= row["clip"] <= 100
    drawn = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert len(drawn) == 12
    assert main(arguments) == 0
    assert capsys.readouterr().out == first
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == drawn
