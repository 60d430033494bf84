"""The bundled small model on native sockets."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.v0_0_2 import io

from humannorm.models import bundled_folder

from .payloads import KINDS, model_facts
from .schema import CATEGORY, schema

__all__ = ["HumanNormBundledModels"]


class HumanNormBundledModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormBundledModels",
            display_name="HumanNorm Bundled Models",
            category=f"{CATEGORY}/models",
            description="The small model that comes with the pack, as native MODEL, CLIP, VAE and CONTROL_NET: draws"
            " people at 128 x 128 pixels on any machine, without a download. Its VAE makes one latent pixel of 4 x 4"
            " image pixels: an Empty Latent Image of 256 x 256 gives a picture of 128 x 128.",
            search_aliases=["humannorm model", "small model", "text to 3d human"],
            inputs=[],
            outputs=[
                io.Model.Output("normal_model", display_name="normal model", tooltip="Draws normal maps of people."),
                io.Model.Output("depth_model", display_name="depth model", tooltip="Draws depth maps of people."),
                io.Model.Output("image_model", display_name="image model", tooltip="Draws pictures of people."),
                io.Clip.Output("clip", display_name="clip", tooltip="Text encoder of all three models."),
                io.Vae.Output("vae", display_name="vae", tooltip="Autoencoder of all three models."),
                io.ControlNet.Output(
                    "control_net",
                    display_name="control net",
                    tooltip="Makes the image model follow a normal map, and all models the dressed body of Person"
                    " Sampler.",
                ),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from .host_models import build_clip, build_control_net, build_models, build_vae

        folder = bundled_folder()
        # Three sets of weights, as with the published models: a LoRA on one of them leaves the others alone.
        models = build_models(folder, 3)
        for model, kind in zip(models, KINDS, strict=True):
            if (facts := model_facts(model)) is not None:
                model.model.humannorm_facts = replace(facts, kind=kind)
        return io.NodeOutput(*models, build_clip(folder), build_vae(folder), build_control_net(folder))
