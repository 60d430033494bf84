"""Pictures of meshes, sculptures and paintings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from comfy_api.v0_0_2 import io

from humannorm.body import Body as BodyValue
from humannorm.checks import InputError
from humannorm.controls import CONTROL_KINDS, ControlKind, control_picture
from humannorm.geometry.state import GeometryState, extract_mesh
from humannorm.mesh import Mesh
from humannorm.models import bundled_folder, camera_plan
from humannorm.texture.state import TextureState
from humannorm.working_box import place

from .devices import rest_device, work_device
from .host_denoiser import ordinary_tensors
from .host_mesh import from_host
from .schema import CATEGORY, Body, ViewerCamera, ViewerModels, advanced, part_input, schema, views_input
from .subjects import check_one_connected, sculpted_mesh, subject_inputs
from .views import as_in_viewer, chosen_views, framed_cameras, rendered, viewer_camera

__all__ = ["HumanNormRenderViews"]

FRAMINGS = ("published", "bundled")


class HumanNormRenderViews(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormRenderViews",
            display_name="HumanNorm Render Views",
            category=f"{CATEGORY}/render",
            description="Normal map, depth map, colours and mask of a mesh, a sculpture or a painting from any sides,"
            " in the encodings that the models know.",
            search_aliases=["render normal map", "render depth", "turntable"],
            inputs=[
                *subject_inputs("mesh", "geometry", "texture"),
                views_input(),
                part_input(),
                io.Combo.Input(
                    "framing",
                    options=list(FRAMINGS),
                    default="published",
                    tooltip="How tightly parts are framed: as the published weights or as the bundled model saw them.",
                ),
                io.Float.Input(
                    "elevation",
                    default=0.0,
                    min=-89.0,
                    max=89.0,
                    step=1.0,
                    tooltip="Degrees above the horizon from which to look.",
                ),
                io.Int.Input("size", default=512, min=16, max=4096, step=8, tooltip="Pixels a side."),
                ViewerCamera.Input(
                    "camera_info",
                    optional=True,
                    tooltip="The framing of a 3D viewer, in place of views, part, framing and elevation; connect the"
                    " mesh that the viewer shows.",
                ),
                ViewerModels.Input(
                    "model_3d_info", optional=True, tooltip="How the same viewer has moved, turned and scaled the mesh."
                ),
                advanced(
                    io.Combo,
                    "control",
                    options=list(CONTROL_KINDS),
                    default="canny",
                    tooltip="What the control picture shows. openpose: the skeleton of the body below.",
                ),
                Body.Input(
                    "body", optional=True, tooltip="The posed body of the mesh, for control pictures of a pose."
                ),
            ],
            outputs=[
                io.Image.Output("normal", display_name="normal", tooltip="Camera-space normals on black."),
                io.Image.Output("depth", display_name="depth", tooltip="Inverse depth, near white, on black."),
                io.Image.Output("color", display_name="color", tooltip="Unlit colours on white."),
                io.Mask.Output("mask", display_name="mask", tooltip="Where the person is."),
                io.Image.Output("control_picture", display_name="control", tooltip="For a ControlNet, on black."),
            ],
        )

    @classmethod
    def execute(
        cls,
        views: str,
        part: str,
        framing: str,
        elevation: float,
        size: int,
        mesh: Any | None = None,
        geometry: GeometryState | None = None,
        texture: TextureState | None = None,
        camera_info: Mapping[str, Any] | None = None,
        model_3d_info: Sequence[Mapping[str, Any]] | None = None,
        control: ControlKind = "canny",
        body: BodyValue | None = None,
    ) -> io.NodeOutput:
        azimuths = chosen_views(views).azimuths
        check_one_connected(mesh=mesh, geometry=geometry, texture=texture)
        if control == "openpose" and body is None:
            raise InputError("body: expected the posed body of the mesh, for its skeleton, got nothing connected")
        with ordinary_tensors():
            plan = camera_plan(bundled_folder()) if framing == "bundled" else None
            cameras = framed_cameras(plan, part, azimuths, elevation)
            if camera_info is not None:
                cameras = viewer_camera(camera_info)
            surface: Mesh
            labels = None
            if texture is not None:
                surface = texture.mesh
            elif geometry is not None:
                surface, labels = sculpted_mesh(geometry), extract_mesh(geometry).labels
            elif camera_info is not None:
                surface = as_in_viewer(from_host(mesh), model_3d_info)
            else:
                surface, _ = place(from_host(mesh))
            placed = body if body is None or camera_info is not None else body.in_working_box()
            surface, cameras = surface.to(work_device()), cameras.to(work_device())
            passes = rendered(surface, cameras, size, None if texture is None else texture.field)
            shown = control_picture(control, surface, cameras, size, body=placed, labels=labels)
            pictures = (passes.normal, passes.depth, passes.color, passes.mask, shown)
            return io.NodeOutput(*(None if picture is None else picture.to(rest_device()) for picture in pictures))
