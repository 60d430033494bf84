"""Other renderers' normal maps. Each call starts from new vertices and ends with an image in memory.

The job, for all: a mesh and its vertices [V, 3] -> area-weighted vertex normals -> camera-space normal map [S, S, 3],
encoded (n + 1) / 2 on black, row 0 on top; and for those that can, the gradient of sum(weights * image) to the
vertices. Where a renderer does less than the full job, its entry says so. Imports happen inside the entries.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.human import human
from humannorm.cameras import Cameras, orbit
from humannorm.mesh import Mesh, vertex_normals
from humannorm.rendering.passes import render


@dataclass(frozen=True)
class Scene:
    """What every renderer is given."""

    mesh: Mesh
    cameras: Cameras
    size: int
    weights: np.ndarray
    """[S, S, 3] gradient of the loss to the image"""

    @property
    def world_to_camera(self) -> np.ndarray:
        """[4, 4], OpenGL axes"""
        return self.cameras.world_to_camera()[0].double().numpy()

    @property
    def focal(self) -> float:
        """pixels"""
        return self.size / 2 / math.tan(math.radians(float(self.cameras.fov_y[0])) / 2)


@dataclass(frozen=True)
class Renderer:
    forward: Callable[[], np.ndarray]
    """image [S, S, 3]"""
    backward: Callable[[], np.ndarray] | None
    """forward and backward: gradient [V, 3]"""


def scene(times: int, size: int) -> Scene:
    """The human, subdivided ``times`` times, seen from the front left; weights drawn once."""
    weights = torch.randn(size, size, 3, generator=torch.Generator().manual_seed(0)).numpy()
    return Scene(human(times), orbit([25.0], elevation=5.0), size, weights)


def humannorm(given: Scene, engine: str = "auto") -> Renderer:
    weights = torch.from_numpy(given.weights)

    def image(vertices: torch.Tensor) -> torch.Tensor:
        mesh = Mesh(vertices, given.mesh.faces)
        normal = render(mesh, given.cameras, (given.size, given.size), ("normal",), engine=engine).normal
        assert normal is not None
        return normal[0]

    def forward() -> np.ndarray:
        with torch.no_grad():
            return image(given.mesh.vertices.clone()).numpy()

    def backward() -> np.ndarray:
        vertices = given.mesh.vertices.clone().requires_grad_()
        (image(vertices) * weights).sum().backward()
        assert vertices.grad is not None
        return vertices.grad.numpy()

    return Renderer(forward, backward)


def deodr(given: Scene) -> Renderer:
    """One thread, float64, not perspective correct (its gradients cannot be), antialiased, back faces culled."""
    from deodr.differentiable_renderer import Camera, Scene3D
    from deodr.triangulated_mesh import ColoredTriMesh

    flip = np.diag([1.0, -1.0, -1.0])  # OpenCV axes
    extrinsic = flip @ given.world_to_camera[:3]
    centre = given.size / 2
    intrinsic = np.array([[given.focal, 0, centre], [0, given.focal, centre], [0, 0, 1]])
    camera = Camera(extrinsic, intrinsic, given.size, given.size)
    vertices = given.mesh.vertices.double().numpy()
    mesh = ColoredTriMesh(given.mesh.faces.numpy(), vertices=vertices, nb_colors=3)  # adjacencies are built once
    drawn = Scene3D(sigma=1, integer_pixel_centers=False)
    drawn.set_mesh(mesh)
    drawn.set_light(light_directional=None, light_ambient=1.0)
    drawn.set_background_color(np.zeros(3))
    rotation = given.world_to_camera[:3, :3]

    def forward() -> np.ndarray:
        mesh.set_vertices(vertices.copy())
        mesh.compute_vertex_normals()
        mesh.vertices_colors = (mesh.vertex_normals @ rotation.T + 1) / 2
        return drawn.render(camera)

    def backward() -> np.ndarray:
        forward()
        drawn.clear_gradients()
        mesh._vertices_b = np.zeros_like(vertices)
        drawn.render_backward(given.weights.astype(np.float64))
        mesh.compute_vertex_normals_backward(mesh.vertices_colors_b @ rotation / 2)
        return mesh._vertices_b

    return Renderer(forward, backward)


def mitsuba(given: Scene) -> Renderer:
    """Ray tracing, one sample a pixel, all cores; no antialiasing and no gradient of silhouettes."""
    import drjit as dr
    import mitsuba as mi

    mi.set_variant("llvm_ad_rgb")
    vertices, faces = given.mesh.vertices.numpy(), given.mesh.faces.numpy().astype(np.uint32)
    mesh = mi.Mesh("mesh", len(vertices), len(faces), has_vertex_normals=True)
    shape = mi.traverse(mesh)
    shape["vertex_positions"], shape["faces"] = vertices.ravel(), faces.ravel()
    shape.update()
    to_world = np.linalg.inv(given.world_to_camera) @ np.diag([-1.0, 1.0, -1.0, 1.0])  # its cameras look along +z
    film = {
        "type": "hdrfilm",
        "width": given.size,
        "height": given.size,
        "rfilter": {"type": "box"},
        "pixel_format": "rgb",
    }
    drawn = mi.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "aov", "aovs": "normal:sh_normal"},
            "mesh": mesh,
            "sensor": {
                "type": "perspective",
                "fov": float(given.cameras.fov_y[0]),
                "fov_axis": "y",
                "to_world": mi.ScalarTransform4f(to_world),
                "film": film,
                "sampler": {"type": "independent", "sample_count": 1},
            },
        }
    )
    parameters = mi.traverse(drawn)
    key = next(key for key in parameters.keys() if key.endswith("vertex_positions"))  # noqa: SIM118
    rotation = given.world_to_camera[:3, :3].astype(np.float32)
    # d/dn of sum(weights * (R n + 1) / 2), in world axes; the ray-traced background is n = 0.
    weights = mi.TensorXf((given.weights @ rotation / 2).astype(np.float32))

    def forward() -> np.ndarray:
        parameters[key] = mi.Float(vertices.ravel())
        parameters.update()
        normal = np.array(mi.render(drawn, spp=1))[..., -3:]
        return np.where(normal.any(-1, keepdims=True), (normal @ rotation.T + 1) / 2, 0.0)

    def backward() -> np.ndarray:
        positions = mi.Float(vertices.ravel())
        dr.enable_grad(positions)
        parameters[key] = positions
        parameters.update()
        image = mi.render(drawn, parameters, spp=1)
        dr.backward(dr.sum((image[..., -3:] * weights).array))
        return np.array(dr.grad(positions)).reshape(-1, 3)

    return Renderer(forward, backward)


def open3d_raycasting(given: Scene) -> Renderer:
    """Embree rays, all cores, normals interpolated by numpy; no antialiasing."""
    import open3d as o3d

    faces = given.mesh.faces.numpy()
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    centre = given.size / 2
    intrinsic = np.array([[given.focal, 0, centre], [0, given.focal, centre], [0, 0, 1]])
    rotation = given.world_to_camera[:3, :3].astype(np.float32)

    def forward() -> np.ndarray:
        vertices = given.mesh.vertices.clone()
        caster = o3d.t.geometry.RaycastingScene()
        caster.add_triangles(o3d.core.Tensor(vertices.numpy()), o3d.core.Tensor(faces.astype(np.uint32)))
        rays = caster.create_rays_pinhole(intrinsic, flip @ given.world_to_camera, given.size, given.size)
        hits = caster.cast_rays(rays)
        normals = vertex_normals(vertices, given.mesh.faces).numpy() @ rotation.T
        triangle, uv = hits["primitive_ids"].numpy(), hits["primitive_uvs"].numpy()
        seen = triangle != caster.INVALID_ID
        image = np.zeros((given.size, given.size, 3), np.float32)
        u, v = uv[seen][:, :1], uv[seen][:, 1:]
        a, b, c = (normals[faces[triangle[seen], k]] for k in range(3))
        mixed = (1 - u - v) * a + u * b + v * c
        image[seen] = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True) + 1) / 2
        return image

    return Renderer(forward, None)


def open3d_offscreen(given: Scene) -> Renderer:
    """Filament on the system's Vulkan driver (here a software one); normals as vertex colours in 8 bits."""
    import open3d as o3d

    drawing = o3d.visualization.rendering
    window = drawing.OffscreenRenderer(given.size, given.size)
    window.scene.set_background([0, 0, 0, 1])
    window.scene.view.set_post_processing(False)
    eye = np.linalg.inv(given.world_to_camera)
    window.setup_camera(float(given.cameras.fov_y[0]), eye[:3, 3] - eye[:3, 2], eye[:3, 3], eye[:3, 1])
    material = drawing.MaterialRecord()
    material.shader = "defaultUnlit"
    rotation = given.world_to_camera[:3, :3]
    faces = o3d.utility.Vector3iVector(given.mesh.faces.int().numpy())

    def forward() -> np.ndarray:
        vertices = given.mesh.vertices.clone()
        mesh = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices.double().numpy()), faces)
        colors = (vertex_normals(vertices, given.mesh.faces).double().numpy() @ rotation.T + 1) / 2
        mesh.vertex_colors = o3d.utility.Vector3dVector(colors)
        window.scene.clear_geometry()
        window.scene.add_geometry("mesh", mesh, material)
        return np.asarray(window.render_to_image()) / 255.0

    return Renderer(forward, None)


def pyrender(given: Scene) -> Renderer:
    """OpenGL on EGL (here a software driver); normals as vertex colours in 8 bits, multisampled edges."""
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    import pyrender as library

    window = library.OffscreenRenderer(given.size, given.size)
    rotation = given.world_to_camera[:3, :3].astype(np.float32)
    faces = given.mesh.faces.int().numpy()
    lens = library.PerspectiveCamera(math.radians(float(given.cameras.fov_y[0])))
    pose = np.linalg.inv(given.world_to_camera)

    def forward() -> np.ndarray:
        vertices = given.mesh.vertices.clone()
        colors = np.ones((len(vertices), 4), np.float32)
        colors[:, :3] = (vertex_normals(vertices, given.mesh.faces).numpy() @ rotation.T + 1) / 2
        primitive = library.Primitive(positions=vertices.numpy(), indices=faces, color_0=colors, mode=4)
        drawn = library.Scene(bg_color=[0, 0, 0, 0])
        drawn.add(library.Mesh([primitive]))
        drawn.add(lens, pose=pose)
        return window.render(drawn, flags=library.RenderFlags.FLAT)[0] / 255.0

    return Renderer(forward, None)


def pytorch3d(given: Scene) -> Renderer:
    import pytorch3d.renderer  # noqa: F401

    raise NotImplementedError(
        "pytorch3d is importable here, but its benchmark was never run: no wheel to write it with"
    )


PEERS: dict[str, tuple[str, Callable[[Scene], Renderer]]] = {
    "DEODR": ("deodr", deodr),
    "Mitsuba 3": ("mitsuba", mitsuba),
    "pytorch3d": ("pytorch3d", pytorch3d),
    "Open3D RaycastingScene": ("open3d", open3d_raycasting),
    "Open3D OffscreenRenderer": ("open3d", open3d_offscreen),
    "pyrender": ("pyrender", pyrender),
}
"""Name -> (package, builder)."""


def _try(name: str) -> Any:
    renderer = PEERS[name][1](scene(0, 64))
    renderer.forward()
    return renderer.backward and renderer.backward()


if __name__ == "__main__":
    _try(sys.argv[1])
