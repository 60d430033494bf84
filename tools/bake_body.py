"""Bake humannorm/body/data/body.npz: a neutral adult mannequin, its shape table, skeleton, weights and named poses.

    ANNY_CACHE_DIR=~/.cache/anny python tools/bake_body.py --poses DIR [DIR ...]

Needs anny 0.6.2 (code Apache-2.0, its MakeHuman/MPFB2 data CC0-1.0; only the CC0 data is used) and, for the poses, the
folders with the CC0 files fight01.bvh, run01.bvh, sit01.bvh, standing01.bvh (github.com/makehumancommunity/
makehuman-assets, base/poses) and tpose.bvh (github.com/makehumancommunity/makehuman, makehuman/data/poses).

What is done to the hm08 body, always by one fixed matrix on the vertices, so that every shape gets the same:
- eye sockets and mouth are pockets of the closed surface: their walls are drawn forward, onto the front of the eyeball
  and into the slit between the lips, so that the surface stays closed and of one piece and has no inner cavities;
- chest, navel, crotch and seat are faired as a plain bodysuit would cover them: the figure is a mannequin.
Order of vertices and faces stays hm08's, so the mesh is both the start of a sculpt and the donor of a rig.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import anny
import anny.paths
import numpy as np
import scipy.sparse as sparse
import scipy.sparse.linalg
import scipy.spatial
import torch

from humannorm.body.bvh import load_bvh, rotations_for
from humannorm.body.linear_blend_skinning import limit_influences
from humannorm.body.shape import ANCHORS, NEUTRAL, to_anny
from humannorm.body.skeleton import matrix_to_quaternion

BODY = 13380  # vertices of the hm08 body; helper geometry follows
EYES = ((14598, 14670), (14670, 14742))  # helper-l-eye, helper-r-eye
NIPPLES = (8454, 1782)
BASIS_SIZE = 24
POSE_FILES = {
    "t-pose": "tpose.bvh",
    "standing": "standing01.bvh",
    "run": "run01.bvh",
    "sit": "sit01.bvh",
    "fight": "fight01.bvh",
}
OUTPUT = Path(__file__).parents[1] / "humannorm" / "body" / "data" / "body.npz"


def to_world(points: np.ndarray) -> np.ndarray:
    """anny's z up, facing -y -> +Y up, facing +Z. Metres stay."""
    return np.stack((points[..., 0], points[..., 2], -points[..., 1]), axis=-1)


class AnnyBody:
    """The makehuman rig and the whole hm08 mesh with its helpers."""

    def __init__(self) -> None:
        self.model = anny.Anny(
            rig="makehuman",
            topology="makehuman-full",
            local_changes="none",
            facial_actions="none",
            phenotypes="all",
        )
        # anny's own linear interpolation of its anchors; float64 keeps the table exact.
        self.model = self.model.double()

    def shape(self, **sliders: float) -> tuple[np.ndarray, np.ndarray]:
        """All 19,158 vertices and 163 joint heads at rest, world axes, metres."""
        phenotype = {name: torch.tensor([value], dtype=torch.float64) for name, value in sliders.items()}
        with torch.no_grad():
            out = self.model.get_rest_model(self.model.get_phenotype_blendshape_coefficients(**phenotype))
        return to_world(out["rest_vertices"][0].numpy()), to_world(out["rest_bone_heads"][0].numpy())

    def quads(self) -> tuple[np.ndarray, np.ndarray]:
        """Faces of the body [F, 4] and their texture corners [F, 4]."""
        faces = self.model.faces.numpy()
        chosen = (faces < BODY).all(axis=1)
        return faces[chosen], self.model.face_texture_coordinate_indices.numpy()[chosen]


def split_quads(quads: np.ndarray, corners: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two triangles a quad, along the shorter diagonal of the neutral body (which is the same on both sides)."""
    a, b, c, d = (vertices[quads[:, k]] for k in range(4))
    first = np.linalg.norm(a - c, axis=1) <= np.linalg.norm(b - d, axis=1) + 1e-9
    order = np.where(first[:, None, None], [[0, 1, 2], [0, 2, 3]], [[1, 2, 3], [1, 3, 0]])
    rows = np.arange(len(quads))[:, None, None]
    return quads[rows, order].reshape(-1, 3), corners[rows, order].reshape(-1, 3)


def adjacency(faces: np.ndarray, count: int) -> sparse.csr_matrix:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    matrix = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count)).tocsr()
    return ((matrix + matrix.T) > 0).astype(float).tocsr()


def cotangent_laplacian(vertices: np.ndarray, faces: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Stiffness matrix (sum of (cot a + cot b)/2 over edges) and lumped vertex areas."""
    rows, columns, values = [], [], []
    areas = np.zeros(len(vertices))
    for k in range(3):
        i, j, o = faces[:, (k + 1) % 3], faces[:, (k + 2) % 3], faces[:, k]
        u, v = vertices[i] - vertices[o], vertices[j] - vertices[o]
        double_area = np.linalg.norm(np.cross(u, v), axis=1).clip(1e-12)
        cot = np.clip((u * v).sum(1) / double_area, -5, 5) / 2
        rows += [i, j, i, j]
        columns += [j, i, i, j]
        values += [-cot, -cot, cot, cot]
        np.add.at(areas, o, double_area / 6)
    data = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.coo_matrix(data, (len(vertices),) * 2).tocsr(), areas


def replace_rows(count: int, indices: np.ndarray, rows: sparse.spmatrix) -> sparse.csr_matrix:
    """The identity with some of its rows exchanged."""
    keep = np.ones(count)
    keep[indices] = 0
    place = sparse.coo_matrix((np.ones(len(indices)), (indices, np.arange(len(indices)))), (count, len(indices)))
    return (sparse.diags(keep) + place @ rows).tocsr()


def membrane(faces: np.ndarray, count: int, inside: np.ndarray) -> sparse.csr_matrix:
    """Each vertex of `inside` becomes the mean of its neighbours (a discrete harmonic surface, Tutte weights)."""
    graph = adjacency(faces, count)
    degree = sparse.diags(np.asarray(graph.sum(axis=1)).ravel())
    laplacian = (degree - graph).tocsr()[inside]
    outside = np.setdiff1d(np.arange(count), inside)
    known = sparse.linalg.splu(laplacian[:, inside].tocsc()).solve(-laplacian[:, outside].toarray())
    known[np.abs(known) < 1e-7] = 0
    rows = sparse.coo_matrix(known).tocsr() @ sparse.identity(count, format="csr")[outside]
    return replace_rows(count, inside, rows)


def onto_eyeball(vertices: np.ndarray, walls: np.ndarray, eye: tuple[int, int]) -> sparse.csr_matrix:
    """Each socket vertex goes to the sphere of the eye, radially; as a fixed affine mix of the eye's own vertices."""
    ball = vertices[slice(*eye)]
    centre = ball.mean(axis=0)
    radius = np.linalg.norm(ball - centre, axis=1).mean()
    direction = vertices[walls] - centre
    target = centre + radius * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    # Smallest weights w with sum(w) = 1 and sum(w x) = target: they move with the eye as the face changes.
    system = np.concatenate([(ball - centre).T, np.ones((1, len(ball)))])
    wanted = np.concatenate([(target - centre).T, np.ones((1, len(walls)))])
    mix = np.linalg.pinv(system) @ wanted
    columns = sparse.coo_matrix(
        (np.ones(len(ball)), (np.arange(len(ball)), np.arange(*eye))), (len(ball), len(vertices))
    )
    return replace_rows(len(vertices), walls, sparse.csr_matrix(mix.T) @ columns)


def smooth_step(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def ball_mask(vertices: np.ndarray, centre: np.ndarray, radii: np.ndarray | float) -> np.ndarray:
    """1 in the inner half of an ellipsoid, smoothly 0 at its border."""
    return smooth_step(2 * (1 - np.linalg.norm((vertices - centre) / radii, axis=1)))


def bodysuit_mask(vertices: np.ndarray) -> np.ndarray:
    """Where the surface is faired, 0..1 (metres on the neutral adult)."""
    torso = np.abs(vertices[:, 0]) < 1e-6
    torso &= vertices[:, 1] < vertices[NIPPLES[0], 1]
    crotch = vertices[np.where(torso)[0][vertices[torso, 1].argmin()]]
    mask = np.zeros(len(vertices))
    for nipple in NIPPLES:
        mask = np.maximum(mask, ball_mask(vertices, vertices[nipple], 0.07))
    regions = [
        (crotch + np.array([0, 0.02, 0.00]), [0.10, 0.14, 0.20]),  # crotch, from front to seat
        (crotch + np.array([0, 0.11, -0.14]), [0.08, 0.17, 0.12]),  # the cleft behind
        ([0.0, crotch[1] + 0.24, 0.12], [0.05, 0.06, 0.08]),  # navel
    ]
    for centre, radii in regions:
        mask = np.maximum(mask, ball_mask(vertices, np.asarray(centre), np.asarray(radii)))
    return mask


def fairing(vertices: np.ndarray, faces: np.ndarray, mask: np.ndarray, total: int) -> sparse.csr_matrix:
    """min sum A k(m) |x - x0|^2 + h^4 A |Lx|^2 (thin plate, Botsch and Kobbelt 2004), h = 2 cm; linear in x0.

    k = (1/m - 1)^2 frees the middle of the mask (m = 1) and holds its border (m = 0) without a crease.
    """
    stiffness, areas = cotangent_laplacian(vertices, faces)
    curvature = sparse.diags(1 / areas) @ stiffness
    hold = sparse.diags(areas * np.minimum((1 / mask.clip(1e-4) - 1) ** 2, 1e6))
    bend = curvature.T @ sparse.diags(0.02**4 * areas) @ curvature
    solver = sparse.linalg.splu((hold + bend).tocsc())
    graph = adjacency(faces, len(vertices)) + sparse.identity(len(vertices))
    moved = np.where(mask > 0)[0]
    ring = np.unique(graph[np.unique(graph[moved].indices)].indices)
    rows = solver.solve(hold.tocsc()[:, ring].toarray())[moved]
    # Rows sum to 1 up to what little of the far field is left out.
    rows /= rows.sum(axis=1, keepdims=True)
    rows[np.abs(rows) < 1e-6] = 0
    place = sparse.coo_matrix((np.ones(len(ring)), (np.arange(len(ring)), ring)), (len(ring), total)).tocsr()
    return replace_rows(total, moved, sparse.csr_matrix(rows) @ place)


def mannequin_matrix(vertices: np.ndarray, faces: np.ndarray) -> sparse.csr_matrix:
    """[BODY, 19158]: from the vertices of a shape to those of its mannequin."""
    data = anny.paths.get_anny_root_dir() / "data" / "template_mesh_internal_cavities.pth"
    pockets = np.asarray(torch.load(data, weights_only=True)["vertex_indices"])
    pockets = pockets[pockets < BODY]
    matrix = membrane(faces, len(vertices), pockets)
    drawn = matrix @ vertices
    for eye in EYES:
        centre = vertices[slice(*eye)].mean(axis=0)
        walls = pockets[np.linalg.norm(drawn[pockets] - centre, axis=1) < 0.025]
        matrix = onto_eyeball(drawn, walls, eye) @ matrix
    drawn = matrix @ vertices
    matrix = fairing(drawn[:BODY], faces, bodysuit_mask(drawn[:BODY]), len(vertices)) @ matrix
    return matrix[:BODY].tocsr()


def split_uvs(faces: np.ndarray, corners: np.ndarray, uvs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One texture vertex per (vertex, uv) pair: uvs [U, 2] with v = 0 at the top, their vertices [U], faces [F, 3]."""
    pairs = np.stack([faces.ravel(), corners.ravel()], axis=1)
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    chosen = uvs[unique[:, 1]].copy()
    chosen[:, 1] = 1 - chosen[:, 1]
    return chosen, unique[:, 0], inverse.reshape(-1, 3)


def mirror_map(points: np.ndarray) -> np.ndarray:
    """Index of each point's mirror image in x; the body and its rig are exactly symmetric at rest."""
    distance, mirror = scipy.spatial.cKDTree(points).query(points * [-1, 1, 1])
    if distance.max() > 1e-6 or not np.array_equal(mirror[mirror], np.arange(len(points))):
        raise SystemExit(f"the rest body is not symmetric: {distance.max():g} m")
    return mirror


def mirror_joints(names: list[str]) -> np.ndarray:
    swap = {".L": ".R", ".R": ".L"}
    return np.array([names.index(name[:-2] + swap[name[-2:]] if name[-2:] in swap else name) for name in names])


def shape_table(
    body: AnnyBody, matrix: sparse.csr_matrix, half: np.ndarray, mirror: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every corner of the slider grid: mean [H, 3], basis [K, H, 3], coefficients [grid..., K].

    H are the points (body vertices, then joints) of the left half and the middle. Between two anchors anny is linear in
    each slider, so the table loses nothing but what the truncated basis does.
    """
    grid = [len(values) for values in ANCHORS.values()]
    corners = []
    for values in itertools.product(*ANCHORS.values()):
        vertices, joints = body.shape(**to_anny(dict(zip(ANCHORS, values, strict=True))))
        points = np.concatenate([matrix @ vertices, joints])
        points[:, 1] -= points[:BODY, 1].min()  # feet on y = 0
        if not np.allclose(points[mirror] * [-1, 1, 1], points, atol=1e-2):  # neck03 is some mm off the middle
            raise SystemExit("a shape is not symmetric")
        corners.append((points[half] + points[mirror[half]] * [-1, 1, 1]).ravel() / 2)
    samples = np.stack(corners)
    mean = samples.mean(axis=0)
    left, scale, basis = np.linalg.svd(samples - mean, full_matrices=False)
    for size in (8, 12, 16, 20, 24, 32, 48):
        rest = (left[:, size:] * scale[size:]) @ basis[size:]
        error = np.linalg.norm(rest.reshape(len(rest), -1, 3), axis=2)
        print(f"basis {size}: corner error mean {error.mean() * 1e3:.2f} mm, worst {error.max() * 1e3:.1f} mm")
    coefficients = (left * scale)[:, :BASIS_SIZE].reshape(*grid, BASIS_SIZE)
    return mean.reshape(-1, 3), basis[:BASIS_SIZE].reshape(BASIS_SIZE, -1, 3), coefficients


def find(name: str, folders: list[Path]) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise SystemExit(f"{name} is in none of {', '.join(map(str, folders))}")


def pose_quaternions(names: list[str], folders: list[Path]) -> dict[str, np.ndarray]:
    """A unit quaternion for each of these joints, pose by pose."""
    return {
        pose: matrix_to_quaternion(rotations_for(load_bvh(find(file, folders), up="z"), names)).numpy()
        for pose, file in POSE_FILES.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poses", type=Path, nargs="+", required=True, help="folders with the CC0 .bvh files")
    parser.add_argument("--out", type=Path, default=OUTPUT)
    args = parser.parse_args()

    body = AnnyBody()
    vertices, _ = body.shape(**to_anny(NEUTRAL))
    quads, corners = body.quads()
    faces, corners = split_quads(quads, corners, vertices)
    matrix = mannequin_matrix(vertices, faces)
    # Vertices and joints apart: a joint may lie where a vertex does.
    mirror = np.concatenate([mirror_map(vertices[:BODY]), BODY + mirror_joints(body.model.bone_labels)])
    # By name for joints: some pairs lie crosswise or on the middle plane.
    left_joints = [not name.endswith(".R") for name in body.model.bone_labels]
    on_left = np.concatenate([vertices[:BODY, 0] > 0, left_joints])
    half = np.where(on_left | (mirror == np.arange(len(mirror))))[0]
    if not np.array_equal(np.union1d(half, mirror[half]), np.arange(len(mirror))):
        raise SystemExit("a point lies in neither half")
    mean, basis, coefficients = shape_table(body, matrix, half, mirror)

    model = body.model
    dense = torch.zeros(len(vertices), model.bone_count, dtype=torch.float64)
    dense.scatter_add_(1, model.vertex_bone_indices.long(), model.vertex_bone_weights.double())
    weight_joints, weights = limit_influences(torch.from_numpy(matrix @ dense.numpy()).clamp_min(0))
    uvs, uv_vertices, uv_faces = split_uvs(faces, corners, model.texture_coordinates.numpy())

    names = list(model.bone_labels)
    poses = pose_quaternions(names, args.poses)

    scale = np.abs(basis).max(axis=(1, 2))
    np.savez_compressed(
        args.out,
        faces=faces.astype(np.uint16),
        uvs=uvs.astype(np.float32),
        uv_vertices=uv_vertices.astype(np.uint16),
        uv_faces=uv_faces.astype(np.uint16),
        joint_names=np.array(names),
        parents=np.array(model.bone_parents, dtype=np.int16),
        weight_joints=weight_joints.numpy().astype(np.uint8),
        weights=weights.numpy().astype(np.float16),
        half=half.astype(np.uint16),
        mirror=mirror.astype(np.uint16),
        shape_mean=mean.astype(np.float32),
        # Scaled to +-1 before rounding to half precision, so that no direction loses its small entries.
        shape_basis=(basis / scale[:, None, None]).astype(np.float16),
        shape_coefficients=(coefficients * scale).astype(np.float32),
        pose_names=np.array(list(poses)),
        pose_quaternions=np.stack(list(poses.values())).astype(np.float32),
        about=np.array(
            json.dumps(
                {
                    "made by": "tools/bake_body.py",
                    "data": "MakeHuman / MPFB2 (CC0-1.0) through anny 0.6.2 (Apache-2.0)",
                    "poses": "MakeHuman community, CC0-1.0: " + ", ".join(POSE_FILES.values()),
                }
            )
        ),
    )
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB, {len(faces)} faces, {len(uvs)} texture vertices")


if __name__ == "__main__":
    main()
