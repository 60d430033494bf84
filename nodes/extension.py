"""The list of nodes, by hand: an id, once published, stays."""

from __future__ import annotations

from comfy_api.v0_0_2 import ComfyExtension, io

from . import (
    body,
    clothes,
    edit,
    export,
    geometry,
    guidance,
    mesh,
    models,
    multiview,
    person_sampler,
    prompts,
    render,
    rig,
    samplers,
    state,
    texture,
)

__all__ = ["NODES"]

NODES: list[type[io.ComfyNode]] = [
    models.HumanNormBundledModels,
    prompts.HumanNormPrompts,
    prompts.HumanNormPickPrompt,
    samplers.HumanNormNormalSampler,
    samplers.HumanNormDepthSampler,
    samplers.HumanNormNormalAlignedSampler,
    body.HumanNormBody,
    guidance.HumanNormGuidance,
    geometry.HumanNormGeometryStart,
    geometry.HumanNormGeometryOptimizer,
    texture.HumanNormTextureStart,
    texture.HumanNormTextureOptimizer,
    texture.HumanNormTextureRefiner,
    render.HumanNormRenderViews,
    export.HumanNormMeshExporter,
    state.HumanNormSaveState,
    state.HumanNormLoadState,
    mesh.HumanNormLoadMesh,
    mesh.HumanNormMeshToTrimesh,
    mesh.HumanNormTrimeshToMesh,
    rig.HumanNormRig,
    rig.HumanNormPose,
    rig.HumanNormAnimate,
    edit.HumanNormEdit,
    multiview.HumanNormMultiviewPainter,
    guidance.HumanNormAddControl,
    clothes.HumanNormChangeClothes,
    person_sampler.HumanNormPersonSampler,
]


class HumanNormExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> HumanNormExtension:
    return HumanNormExtension()
