"""Small random models of each family, of the host's own classes, with prompts and a VAE to match."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

LATENTS = {"SD15": 4, "SD20": 4, "SDXL": 4, "SD3": 16, "Flux": 16, "Lumina2": 16, "QwenImage": 16}
SIDE = 64  # pixels


def unet(**more: Any) -> dict[str, Any]:
    return {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 64,  # the host gives SD2.x and SDXL heads of 64
        "channel_mult": [1, 1],
        "num_res_blocks": [1, 1],
        "transformer_depth": [1, 1],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": True,
        "context_dim": 32,
        "num_head_channels": 64,
        "num_heads": -1,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
        "legacy": False,
        **more,
    }


V_KEY = "output_blocks.11.1.transformer_blocks.0.norm1.bias"  # by which the host tells v-predicting SD2.x
POOLED = {"SDXL": 32, "SD3": 48, "Flux": 24}


def settings_of(family: str) -> dict[str, Any]:
    """The host's configuration of a network of a few thousand weights."""
    if family in ("SD15", "SD20"):
        return unet()
    if family == "SDXL":
        return unet(adm_in_channels=POOLED["SDXL"] + 6 * 256, num_classes="sequential")
    if family == "SD3":
        text = {"target": "torch.nn.Linear", "params": {"in_features": 40, "out_features": 128}}
        return {
            "in_channels": 16,
            "patch_size": 2,
            "depth": 2,
            "input_size": None,
            "adm_in_channels": POOLED["SD3"],
            "context_embedder_config": text,
            "num_patches": 64,
            "pos_embed_max_size": 8,
            "pos_embed_scaling_factor": None,
        }
    if family == "Flux":
        import comfy.ldm.flux.model

        newer = "txt_ids_dims" in comfy.ldm.flux.model.FluxParams.__dataclass_fields__
        return {
            **({"txt_ids_dims": []} if newer else {}),
            "image_model": "flux",
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "vec_in_dim": POOLED["Flux"],
            "context_in_dim": 40,
            "hidden_size": 64,
            "mlp_ratio": 2.0,
            "num_heads": 2,
            "depth": 1,
            "depth_single_blocks": 1,
            "axes_dim": [8, 12, 12],
            "theta": 10000,
            "qkv_bias": True,
            "guidance_embed": True,
        }
    if family == "Lumina2":
        return {
            "image_model": "lumina2",
            "patch_size": 2,
            "in_channels": 16,
            "dim": 64,
            "n_layers": 1,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 1,
            "multiple_of": 16,
            "qk_norm": True,
            "cap_feat_dim": 40,
            "axes_dims": [8, 12, 12],
            "axes_lens": [64, 64, 64],
        }
    return {
        "image_model": "qwen_image",
        "in_channels": 64,
        "num_layers": 1,
        "attention_head_dim": 32,
        "num_attention_heads": 2,
        "joint_attention_dim": 40,
        "axes_dims_rope": (8, 12, 12),
    }


def filled(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The host's layers leave their weights as memory was: norms near one, all else small."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.named_parameters():
        around = 1.0 if ("norm" in name and name.endswith(("weight", "scale"))) or name.endswith("gamma") else 0.0
        spread = 0.02 if around else 0.7 / max(1, weight[0].numel() if weight.ndim > 1 else 8) ** 0.5
        weight.data = (around + spread * torch.randn(weight.shape, generator=generator)).to(weight.dtype)
    return module.requires_grad_(False).eval()


def build_network(family: str, seed: int = 0, **changes: Any) -> Any:
    """MODEL of a family, of the class that the host's loader would choose."""
    import comfy.model_patcher
    import comfy.supported_models

    config = getattr(comfy.supported_models, family)({**settings_of(family), **changes})
    config.set_inference_dtype(torch.float32, None)
    generator = torch.Generator().manual_seed(seed)
    clue = {V_KEY: torch.randn(64, generator=generator)} if family == "SD20" else {}
    model = config.get_model(clue, "", device=torch.device("cpu"))
    filled(model.diffusion_model, seed)
    pos = getattr(model.diffusion_model, "pos_embed", None)
    if isinstance(pos, torch.Tensor):
        model.diffusion_model.pos_embed = 0.02 * torch.randn(pos.shape, generator=generator)
    made = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return made(model.eval(), load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


def build_vae(family: str) -> Any:
    """VAE of the family's kind, eight times smaller latents; Qwen-Image's is one of films."""
    import comfy.ldm.models.autoencoder
    import comfy.ldm.wan.vae
    import comfy.sd

    if family == "QwenImage":
        whole = comfy.ldm.wan.vae.WanVAE

        class Small(whole):
            def __init__(self, **settings: Any) -> None:
                super().__init__(**{**settings, "dim": 8, "num_res_blocks": 1})

        comfy.ldm.wan.vae.WanVAE = Small
        try:
            channels = {"dim": 8, "z_dim": 16, "temperal_downsample": [False, True, True]}
            weights = filled(Small(**channels)).state_dict()
            return comfy.sd.VAE(sd=weights)
        finally:
            comfy.ldm.wan.vae.WanVAE = whole
    latents = LATENTS[family]
    layout = {
        "double_z": True,
        "z_channels": latents,
        "resolution": SIDE,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    network = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=layout, embed_dim=latents)
    vae = comfy.sd.VAE(sd=filled(network).state_dict(), config={"params": {"ddconfig": layout, "embed_dim": latents}})
    vae.latent_channels = latents
    return vae


@dataclass(frozen=True)
class Texts:
    """What a family's CLIP gives: widths and lengths, pooled or masked."""

    width: int
    length: Callable[[int], int]
    pooled: int | None = None
    masked: bool = False


TEXTS = {
    "SD15": Texts(32, lambda words: 77),
    "SD20": Texts(32, lambda words: 77),
    "SDXL": Texts(32, lambda words: 77, pooled=POOLED["SDXL"]),
    "SD3": Texts(40, lambda words: 77, pooled=POOLED["SD3"]),
    "Flux": Texts(40, lambda words: 20, pooled=POOLED["Flux"]),
    "Lumina2": Texts(40, lambda words: 24, masked=True),
    "QwenImage": Texts(40, lambda words: 5 + words),  # as long as the text is
}


def encoded(family: str, text: str) -> list[list[Any]]:
    """The CONDITIONING of a text: noise that hangs on the text alone."""
    kind, words = TEXTS[family], len(text.split())
    generator = torch.Generator().manual_seed(sum(map(ord, text)))
    embedding = torch.randn(1, kind.length(words), kind.width, generator=generator)
    extra: dict[str, Any] = {"pooled_output": None}
    if kind.pooled is not None:
        extra["pooled_output"] = torch.randn(1, kind.pooled, generator=generator)
    if kind.masked:
        extra["attention_mask"] = (torch.arange(kind.length(words)) < 4 + words).long()[None]
    return [[embedding, extra]]


def build_payload(
    rooms: types.SimpleNamespace, family: str, modality: str = "color", cfg: float = 3.0, **more: Any
) -> Any:
    """HUMANNORM_GUIDANCE of a family at `SIDE` pixels."""
    from humannorm.prompts import Prompts

    texts = Prompts("an old woman in a long green coat", modality)
    table = {text: encoded(family, text) for text in texts.table().values()}
    prompts = rooms.payloads.PromptSet(texts, table, encoded(family, ""))
    model, vae = build_network(family), build_vae(family)
    return rooms.payloads.GuidancePayload(model, prompts, vae, cfg, SIDE, **more)


def build_control_net(family: str, seed: int = 1) -> Any:
    """CONTROL_NET of the classes that the host's loaders make for a family; one that says something."""
    import comfy.cldm.cldm
    import comfy.cldm.mmdit
    import comfy.controlnet
    import comfy.latent_formats
    import comfy.ops

    rest = {"operations": comfy.ops.disable_weight_init, "dtype": torch.float32, "device": torch.device("cpu")}
    if family == "SD3":
        network = comfy.cldm.mmdit.ControlNet(num_blocks=2, **settings_of("SD3"), **rest)
        network.pos_embed = torch.zeros(1, 64, 128)
        latents = {"latent_format": comfy.latent_formats.SD3(), "compression_ratio": 1}
        return comfy.controlnet.ControlNet(filled(network, seed), load_device=rest["device"], **latents)
    settings = {**settings_of(family), "hint_channels": 3}
    for name in ("out_channels", "transformer_depth_output", "use_temporal_attention", "use_temporal_resblock"):
        settings.pop(name)
    network = comfy.cldm.cldm.ControlNet(**settings, **rest)
    return comfy.controlnet.ControlNet(filled(network, seed), load_device=rest["device"])


def tube(sides: int = 16, rows: int = 8) -> Any:
    """An upright tube 1.8 high on texture coordinates that fill the picture."""
    from humannorm.mesh import Mesh

    angle, height = torch.linspace(0, 2 * torch.pi, sides + 1), torch.linspace(-0.9, 0.9, rows + 1)
    y, a = torch.meshgrid(height, angle, indexing="ij")
    vertices = torch.stack([0.3 * a.sin(), y, 0.3 * a.cos()], -1).reshape(-1, 3)
    uvs = torch.stack([0.02 + 0.96 * a / (2 * torch.pi), 0.02 + 0.96 * (0.9 - y) / 1.8], -1).reshape(-1, 2)
    corner = torch.arange(rows * (sides + 1)).reshape(rows, sides + 1)[:, :-1].reshape(-1, 1)
    faces = torch.cat([corner + torch.tensor([[0, 1, sides + 2]]), corner + torch.tensor([[0, sides + 2, sides + 1]])])
    return Mesh(vertices, faces, uvs=uvs)
