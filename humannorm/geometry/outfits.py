"""A body in its outfit as one closed surface that knows what each of its faces is.

Cloth and hair are open surfaces, some of them sheets. Each becomes a solid: the openings of cloth are closed by shallow
cones that point inward, hair and the brims of hats are given a thickness that the lattice can hold. What lies under
something else is pushed below it, the solids are united, and of the surface around them the largest piece is kept:
pockets between cloth and skin are nobody's to see.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from humannorm.body import Body, BodyShape, Outfit, load_body
from humannorm.body.hulls import HANGING_POSES, hulls_of
from humannorm.body.outfit import CLOSED, CUTS, Piece
from humannorm.body.regions import region_vertices
from humannorm.body.wardrobe import fitted, hidden_under, rest_garment, worn_inside
from humannorm.distance.sign_regions import topology_of
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.band import SignedField, band_at_points, box_field
from humannorm.geometry.labelled import LabelledSurface
from humannorm.geometry.lattice import Lattice, keys_from_addresses
from humannorm.geometry.marching import interpolate_crossings, marching_topology
from humannorm.labels import SKIN, label_number
from humannorm.mesh import Mesh, connected_components, face_areas, face_normals, unique_edges, vertex_normals

__all__ = ["RESOLUTION", "DressedBody", "dress", "garments_of", "rounded", "split_faces", "told_of_pose"]

RESOLUTION = 448  # lattice cells a side, as `holding.FINGERS`: fingers stay apart
HOLLOW = 0.3  # depth of the cone in an opening, in its radii
CLOTH = 0.0015  # world units that cloth is moved outward: what lies a hair's breadth below does not show
SHEET = 0.006  # half the thickness of hair and brims, world units: half an edge of the lattice
FINE = 6000  # faces of a garment that needs no rounding
HEM = 0.004  # half the thickness of cloth beside an opening, world units
RINGS = 2  # of vertices from an opening inward that are so thick
BELOW = 0.006  # world units that what is covered lies below its cover
SMALLEST_PART = 0.02  # of a garment's area: laces and buttons are finer than the lattice
REACH = 0.02  # world units above a cover within which something counts as covered
STEPS = (0.5, -0.53) * 5  # of the smoothing of hair
BORDER_STEPS = (0.5, -0.53) * 20  # ... of the borders between labels, as curves
SHORTEST_BORDER = 12  # vertices: smaller rings would shrink to a point
RIM_STEPS = (0.5, -0.53) * 10  # ... of what is beside them
RIMS = 3  # rings of vertices beside a border
TEETH = 4  # rounds in which a face takes the label that two of its neighbours share
ISLAND = 0.006  # square world units (8 cm by 8 cm on a person) of the largest piece that is no piece of clothing
APART = 0.01  # of an edge: how far vertices of the surface keep from the lattice's
NEARLY = 0.95  # of the way onto the body's own surface, and to where smoothing has a vertex
LIPS = 0.004  # half the thickness of what fills the slit of the mouth, world units
CHEST = "spine02"  # joint that the front of a jacket follows
LAPEL = 0.2  # how much wider a jacket stands open above the chest, per unit of height
OVER = 0.008  # world units that a jacket stands off what is worn below it
GATHERED = 0.006  # world units of a dress from the body at its waist
WAIST = 0.09  # metres below the waist to which the upper part of a dress reaches
UNDER_HAT = 0.06  # the same for hair under a hat


@dataclass(frozen=True, eq=False)
class DressedBody:
    """A body in its outfit."""

    surface: LabelledSurface
    outfit: Outfit
    told: tuple[str, ...]  # sentences for the user: what does not look as it should


@dataclass(frozen=True, eq=False)
class _Opening:
    """Where the front of a jacket stands open: a strip of the garment at rest, wider above the chest."""

    cloth: SignedDistance  # the garment on the body
    at_rest: Float[Tensor, "F 3 3"]  # corners of its faces on the body at rest, from the middle of the chest
    half_width: float

    @staticmethod
    def of(body: Body, name: str, half_width: float) -> _Opening:
        worn = fitted(body, name)
        chest = body.rest_joints[body.joint_names.index(CHEST)]
        rest = rest_garment(body.shape, name) / body.metres_per_unit - chest
        return _Opening(SignedDistance(worn.vertices, worn.faces, inside_out="flip"), rest[worn.faces], half_width)

    def __call__(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Distance to the strip along the cloth, world units, negative within it."""
        closest = self.cloth.closest(points)
        rest = (self.at_rest[closest.face] * closest.barycentric.to(points)[..., None]).sum(1)
        x, y, z = rest.unbind(1)
        return torch.maximum(x.abs() - self.half_width - LAPEL * y.clamp_min(0), -z)


@dataclass(frozen=True, eq=False)
class _Layer:
    """One solid of the union."""

    mesh: Mesh
    labels: Int64[Tensor, " F"]
    is_cloth: Bool[Tensor, " F"]  # the rest of the faces close its openings
    solid: bool = True
    sheet: float = 0.0  # half the thickness of a surface without inside, world units; 0: it has an inside alone
    grown: float = 0.0  # world units
    hides: float = REACH  # world units above it within which something counts as covered; 0: hides nothing
    opening: _Opening | None = None

    @cached_property
    def distance(self) -> SignedDistance:
        return SignedDistance(self.mesh.vertices, self.mesh.faces, inside_out="flip")

    @cached_property
    def box(self) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
        """Lowest and highest coordinates of what it fills."""
        used, more = self.mesh.vertices[self.mesh.faces.flatten()], self.grown + self.sheet
        return used.amin(0) - more, used.amax(0) + more

    @cached_property
    def _cloth(self) -> SignedDistance:
        faces = self.mesh.faces[self.is_cloth]
        return self.distance if len(faces) == len(self.mesh.faces) else SignedDistance(self.mesh.vertices, faces)

    def __call__(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Distance to the solid, negative inside; to the sheet of a thickness; to both, the nearer."""
        values = self.distance(points) - self.grown if self.solid else torch.full_like(points[:, 0], torch.inf)
        if self.sheet:
            away = (self._cloth.closest(points).point - points).norm(dim=1) - self.sheet
            values = torch.minimum(values, away)
        return values if self.opening is None else torch.maximum(values, -self.opening(points))

    def labels_at(self, points: Float[Tensor, "N 3"]) -> Int64[Tensor, " N"]:
        if bool((self.labels == self.labels[0]).all()):
            return self.labels[:1].expand(len(points))
        return self.labels[self.distance.closest(points).face]


def dress(body: Body, outfit: Outfit, resolution: int | None = None) -> DressedBody:
    """The union of a body and all that it wears, in the body's frame (the working box).

    resolution: cells a side of the lattice, `RESOLUTION` by default; below 448 fingers fuse and hair gets holes.
    """
    pieces = _seen(outfit)
    garments = [name for piece in pieces for name in garments_of(body, piece)]
    layers: list[_Layer] = []
    for piece in pieces:
        layers += _layers_of(body, piece, _hem_of_legs(body, outfit))
    layers = [_tucked_under(layer, layers[place + 1 :]) for place, layer in enumerate(layers)]
    skin = _skin(body, hidden_under(garments, len(body.vertices)), layers)
    surface = _refined(_labelled_union([skin, _lips(body), *layers], resolution or RESOLUTION), skin, body)
    return DressedBody(surface, outfit, told_of_pose(body.pose, outfit))


def _seen(outfit: Outfit) -> tuple[Piece, ...]:
    """The pieces but for tops below something that is worn closed."""
    closed = any(piece.cut in CLOSED for piece in outfit.pieces)
    return tuple(piece for piece in outfit.pieces if not (closed and piece.label == "top"))


def told_of_pose(pose: str, outfit: Outfit) -> tuple[str, ...]:
    """A sentence for the user where a pose would tear what hangs, and it is therefore made otherwise."""
    shortened = [str(piece) for piece in outfit.pieces if _hangs(piece) and pose not in HANGING_POSES]
    return (f"in the pose {pose} this is made knee-length and close: {', '.join(shortened)}",) if shortened else ()


def _hangs(piece: Piece) -> bool:
    """Whether it is a hull that hangs around both legs."""
    tube = CUTS[piece.cut].tube
    return tube is not None and not tube.legs


def garments_of(body: Body, piece: Piece) -> tuple[str, ...]:
    """What of the wardrobe a piece is made of; a skirt in place of what hangs where the pose would tear that."""
    names = CUTS[piece.cut].garments(body.shape.sex)
    return (*names, "skirt") if _hangs(piece) and body.pose not in HANGING_POSES else names


def _layers_of(body: Body, piece: Piece, hem: float | None) -> list[_Layer]:
    """The solids of one piece. hem: height at rest (metres) above which trousers cover shoes; None: nothing does."""
    number = label_number(piece.label)
    layers: list[_Layer] = []
    for name in garments_of(body, piece):
        mesh = fitted(body, name)
        labels = torch.full((mesh.num_faces,), number)
        if piece.label == "hair":
            everything = torch.ones(mesh.num_faces, dtype=torch.bool)
            layers.append(_Layer(mesh, labels, everything, solid=False, sheet=SHEET, hides=0.0))
            continue
        if piece.label == "outer":
            labels[worn_inside(name)] = label_number("top")
        height = rest_garment(body.shape, name)[mesh.faces][..., 1]
        if piece.label == "shoes" and hem is not None:
            low = (height < hem).any(1)
            mesh, labels = Mesh(mesh.vertices, mesh.faces[low]), labels[low]
        if piece.label == "dress" and body.pose in HANGING_POSES:  # a hull hangs from its waist
            waist = float(body.rest_joints[body.joint_names.index("spine04"), 1]) * body.metres_per_unit
            high = (height > waist - WAIST).all(1)
            mesh, labels = _gathered(Mesh(mesh.vertices, mesh.faces[high]), body), labels[high]
        solids = _solids_of_cloth(mesh, labels, is_hat=piece.label == "hat")
        if width := CUTS[piece.cut].opening:
            opening = _Opening.of(body, name, width)
            solids = [_opened(solid, opening) for solid in solids]
        layers += solids
    hulls = () if _hangs(piece) and body.pose not in HANGING_POSES else hulls_of(body, CUTS[piece.cut])
    for hull in hulls:
        everything = torch.ones(hull.num_faces, dtype=torch.bool)
        hides = UNDER_HAT if piece.label == "hat" else REACH
        layers.append(_Layer(hull, torch.full((hull.num_faces,), number), everything, hides=hides))
    return layers


def _opened(layer: _Layer, opening: _Opening) -> _Layer:
    """A layer of a jacket that stands open, off what is worn below it."""
    return dataclasses.replace(
        layer,
        opening=opening,
        grown=layer.grown + OVER,
        sheet=layer.sheet + OVER if layer.sheet else 0.0,
        hides=3 * REACH if layer.hides else 0.0,
    )


def _gathered(mesh: Mesh, body: Body) -> Mesh:
    """The upper part of a dress, the closer to the body the nearer to the waist."""
    chest, waist = (float(body.joint(name)[1]) for name in (CHEST, "spine04"))
    share = ((chest - mesh.vertices[:, 1:2]) / (chest - waist)).clamp(0, 1)
    closest = SignedDistance(body.vertices, body.faces, inside_out="flip").closest(mesh.vertices).point
    away = mesh.vertices - closest
    length = away.norm(dim=1, keepdim=True).clamp_min(1e-6)
    near = closest + away * (length.clamp_max(GATHERED) / length)
    return Mesh(torch.lerp(mesh.vertices, near, share), mesh.faces)


def _solids_of_cloth(mesh: Mesh, labels: Int64[Tensor, " F"], is_hat: bool) -> list[_Layer]:
    """Each connected part of a garment as a solid of its own, its hems as thick as the lattice can hold."""
    part = connected_components(mesh.faces, mesh.num_vertices)[mesh.faces[:, 0]]
    areas = face_areas(mesh.vertices, mesh.faces)
    layers = []
    for number in part.unique():
        own = part == number
        if float(areas[own].sum()) < SMALLEST_PART * float(areas.sum()):
            continue
        cloth, own_labels = Mesh(mesh.vertices, mesh.faces[own]), labels[own]
        if cloth.num_faces < FINE:
            cloth, own_labels = rounded(cloth), own_labels.repeat_interleave(4)
        closed = _closed_cloth(cloth)
        caps = closed.num_faces - cloth.num_faces
        is_cloth = torch.cat([torch.ones(cloth.num_faces, dtype=torch.bool), torch.zeros(caps, dtype=torch.bool)])
        extended = torch.cat([own_labels, own_labels[:1].expand(caps)])
        hides = UNDER_HAT if is_hat else REACH
        layers.append(_Layer(closed, extended, is_cloth, sheet=SHEET if is_hat else 0.0, grown=CLOTH, hides=hides))
        hem = closed.faces[is_cloth][_beside_openings(closed.faces[is_cloth])]
        if len(hem):
            every = torch.ones(len(hem), dtype=torch.bool)
            number_of_hem = own_labels[:1].expand(len(hem))
            layers.append(_Layer(Mesh(closed.vertices, hem), number_of_hem, every, solid=False, sheet=HEM, hides=0.0))
    return layers


def rounded(mesh: Mesh) -> Mesh:
    """Each triangle as four, the new vertices on the curve of the old ones (Phong tessellation, Boubekeur and Alexa
    2008): an edge's middle goes three quarters of the way to where the tangent planes of its ends have it."""
    normals = vertex_normals(mesh.vertices, mesh.faces)
    edges, place = _edges_of_faces(mesh.faces)
    start, end = mesh.vertices[edges].unbind(1)
    middle = (start + end) / 2
    pulls = [
        normals[edges[:, k]] * ((middle - p) * normals[edges[:, k]]).sum(1, keepdim=True)
        for k, p in enumerate((start, end))
    ]
    middle = middle - 0.75 * (pulls[0] + pulls[1]) / 2
    a, b, c = mesh.faces.unbind(1)
    ab, bc, ca = (place + mesh.num_vertices).unbind(1)
    fours = torch.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], 1)
    return Mesh(torch.cat([mesh.vertices, middle]), fours.reshape(-1, 3))


def _edges_of_faces(faces: Int64[Tensor, "F 3"]) -> tuple[Int64[Tensor, "E 2"], Int64[Tensor, "F 3"]]:
    """Every edge once, and for each face which they are; edge k runs from its corner k to the next."""
    low, high = torch.minimum(faces, faces.roll(-1, 1)), torch.maximum(faces, faces.roll(-1, 1))
    stride = int(faces.max()) + 1
    keys, place = torch.unique(low * stride + high, return_inverse=True)
    return torch.stack([keys // stride, keys % stride], 1), place


def _closed_cloth(mesh: Mesh) -> Mesh:
    """Cloth of one connected part with a cone over each opening, its tip inside, `HOLLOW` radii deep; cloth first."""
    topology = topology_of(mesh.vertices.double().numpy(), mesh.faces.numpy())
    vertices, faces = torch.from_numpy(topology.positions).float(), torch.from_numpy(topology.faces)
    edges = torch.from_numpy(topology.boundary)
    middle = vertices[faces.unique()].mean(0)
    loop = connected_components(torch.cat([edges, edges[:, :1]], 1), len(vertices))[edges[:, 0]]
    tips, cones = [vertices[:0]], [faces]
    for number, members in enumerate(loop == each for each in loop.unique()):
        rim = vertices[edges[members, 0]]
        centre = rim.mean(0)
        start, end = (vertices[edges[members, k]] - centre for k in range(2))
        axis = torch.nn.functional.normalize(torch.linalg.cross(start, end).sum(0), dim=0)
        inward = axis * torch.sign(axis @ (middle - centre))
        tips.append((centre + inward * HOLLOW * (rim - centre).norm(dim=1).mean())[None])
        tip = torch.full((int(members.sum()),), len(vertices) + number)
        cones.append(torch.stack([edges[members, 1], edges[members, 0], tip], 1))
    return Mesh(torch.cat([vertices, *tips]), torch.cat(cones))


def _beside_openings(faces: Int64[Tensor, "F 3"]) -> Bool[Tensor, " F"]:
    """Faces within `RINGS` of the boundary."""
    edges, place = _edges_of_faces(faces)
    open_edges = edges[torch.bincount(place.flatten(), minlength=len(edges)) == 1]
    near = torch.zeros(int(faces.max()) + 1, dtype=torch.bool)
    near[open_edges] = True
    for _ in range(RINGS - 1):
        near[faces[near[faces].any(1)]] = True
    return near[faces].all(1)


def _hem_of_legs(body: Body, outfit: Outfit) -> float | None:
    """Height at rest, metres, of the hems of trousers that reach the feet."""
    names = [name for piece in outfit.of("bottom") for name in CUTS[piece.cut].garments(body.shape.sex)]
    lowest = [float(rest_garment(body.shape, name)[:, 1].min()) for name in names]
    return min(lowest) if lowest else None


def _skin(body: Body, hidden: Bool[Tensor, " V"], covers: Sequence[_Layer]) -> _Layer:
    """The body, pushed below its clothes where these hide it."""
    vertices = body.vertices
    for cover in covers:
        if cover.hides:
            vertices = torch.where(hidden[:, None], _tucked(vertices, cover), vertices)
    labels = torch.full((len(body.faces),), SKIN)
    return _Layer(Mesh(vertices, body.faces), labels, torch.ones(len(body.faces), dtype=torch.bool))


def _lips(body: Body) -> _Layer:
    """What fills the slit between the lips, too narrow for the lattice, up to a groove."""
    faces = body.faces[_slit_of_mouth(len(body.vertices))[body.faces].all(1)]
    everything = torch.ones(len(faces), dtype=torch.bool)
    return _Layer(
        Mesh(body.vertices, faces), torch.full((len(faces),), SKIN), everything, solid=False, sheet=LIPS, hides=0.0
    )


@functools.cache
def _slit_of_mouth(count: int) -> Bool[Tensor, " V"]:
    """Vertices between the lips, of `count`: a step outward from them ends at the other lip. As on the neutral body."""
    body = load_body(BodyShape(), "rest").in_working_box()
    vertices, step = body.vertices, LIPS
    mouth = (body.joint("oris05") + body.joint("oris01")) / 2  # between the middles of the lips
    near = ((vertices - mouth).norm(dim=1) < 0.035).nonzero()[:, 0]
    normals = vertex_normals(vertices, body.faces)[near]
    met = SignedDistance(vertices, body.faces)(vertices[near] + step * normals) < step / 3
    slit = torch.zeros(count, dtype=torch.bool)
    slit[near[met]] = True
    return slit


def _tucked_under(layer: _Layer, covers: Sequence[_Layer]) -> _Layer:
    """A layer with what its covers lie over pushed below them."""
    vertices = layer.mesh.vertices
    for cover in covers:
        if cover.hides and not bool((cover.labels[0] == layer.labels[0]).all()):
            vertices = _tucked(vertices, cover)
    return (
        layer if vertices is layer.mesh.vertices else dataclasses.replace(layer, mesh=Mesh(vertices, layer.mesh.faces))
    )


def _tucked(vertices: Float[Tensor, "V 3"], cover: _Layer) -> Float[Tensor, "V 3"]:
    """The vertices, those that the cover's cloth lies over moved to `BELOW` under it."""
    low, high = cover.box[0] - cover.hides, cover.box[1] + cover.hides
    near = ((vertices > low) & (vertices < high)).all(1).nonzero()[:, 0]
    if not len(near):
        return vertices
    points = vertices[near]
    closest = cover.distance.closest(points)
    normal = face_normals(cover.mesh.vertices, cover.mesh.faces)[closest.face]
    away = points - closest.point
    height = (away * normal).sum(1)
    # Beside a hem the nearest point is on its edge, and the way there is along the cloth.
    over = cover.is_cloth[closest.face] & (height.abs() > 0.7 * away.norm(dim=1))
    over &= (height > -BELOW) & (height < cover.hides)
    moved = vertices.clone()
    moved[near[over]] = (closest.point - BELOW * normal)[over]
    return moved


def _labelled_union(layers: Sequence[_Layer], resolution: int) -> LabelledSurface:
    """The largest piece of the surface around all layers, and the label of each face."""
    lattice = Lattice(resolution)
    field = _Remembering(_least(layers), lattice)
    seeds = torch.cat([layer.mesh.vertices for layer in layers])
    seeds = _one_a_cell(seeds[seeds.abs().amax(1) < 1.0], lattice)
    seeds = seeds[_least(layers)(seeds) > -2 * lattice.cell_size]  # what lies deeper is hidden
    band, sdf = band_at_points(lattice, seeds, box_field(field))
    topology = marching_topology(band, sdf)
    # Apart from the edges' ends, where crossings of several edges would be one point and the surface not a manifold.
    vertices, faces = interpolate_crossings(topology.edges, sdf, band.positions, APART), topology.faces
    piece = connected_components(faces, len(vertices))[faces[:, 0]]
    faces = faces[piece == piece.bincount().argmax()]
    used, faces = torch.unique(faces, return_inverse=True)
    mesh = Mesh(vertices[used], faces.reshape(-1, 3))
    edges, place = _edges_of_faces(mesh.faces)
    labels = _without_islands(mesh, _labels(mesh, layers), place)
    return LabelledSurface(_without_stairs(mesh, labels, edges, place), labels)


def _without_stairs(
    mesh: Mesh, labels: Int64[Tensor, " F"], edges: Int64[Tensor, "E 2"], place: Int64[Tensor, "F 3"]
) -> Mesh:
    """Hems and hair without the lattice's steps (Taubin 1995: smoothing steps that alternate with growing ones).

    First each border between labels as a curve, then `RIMS` rings of vertices beside it, and hair. edges, place: as
    `_edges_of_faces` gives them.
    """
    low, high = _least_and_most(labels.repeat_interleave(3), place.flatten(), len(edges))
    border = edges[low != high]
    ends = border.flatten().bincount(minlength=mesh.num_vertices)
    piece = connected_components(torch.cat([border, border[:, :1]], 1), mesh.num_vertices)
    long = piece.bincount()[piece] >= SHORTEST_BORDER
    curved = _smoothed(mesh, (ends == 2) & long, BORDER_STEPS, border)
    near = ends > 0
    for _ in range(RIMS):
        beside = edges[near[edges].any(1)]
        near = near.index_fill(0, beside.flatten(), True)
    beside_hem = _smoothed(curved, near & (ends == 0), RIM_STEPS, edges)
    hair = mesh.faces[labels == label_number("hair")].unique()
    only_hair = torch.zeros_like(near).index_fill(0, hair, True) & (ends == 0)
    smooth = _smoothed(beside_hem, only_hair, STEPS, edges)
    # Not quite: two vertices with the same neighbours must not become one.
    return Mesh(torch.lerp(mesh.vertices, smooth.vertices, NEARLY), mesh.faces)


def _least_and_most(values: Int64[Tensor, " N"], place: Int64[Tensor, " N"], count: int) -> tuple[Tensor, Tensor]:
    """Of the values at each of `count` places."""
    low = torch.full((count,), torch.iinfo(torch.int64).max).scatter_reduce(0, place, values, "amin")
    return low, torch.full((count,), -1).scatter_reduce(0, place, values, "amax")


def _smoothed(
    mesh: Mesh, free: Bool[Tensor, " V"], steps: Sequence[float], edges: Int64[Tensor, "E 2"] | None = None
) -> Mesh:
    """The mesh with these vertices moved toward the mean of their neighbours along `edges` (None: all), in steps."""
    edges = unique_edges(mesh.faces) if edges is None else edges
    start, end = edges[free[edges].any(1)].unbind(1)
    count = torch.bincount(torch.cat([start, end]), minlength=mesh.num_vertices)[:, None].clamp_min(1).float()
    vertices = mesh.vertices
    for step in steps:
        around = (
            torch.zeros_like(vertices).index_add(0, start, vertices[end]).index_add(0, end, vertices[start]) / count
        )
        vertices = torch.where(free[:, None], vertices + step * (around - vertices), vertices)
    return Mesh(vertices, mesh.faces)


def _without_islands(mesh: Mesh, labels: Int64[Tensor, " F"], place: Int64[Tensor, "F 3"]) -> Int64[Tensor, " F"]:
    """The labels without single teeth at borders; and a small piece that lies within one other (a shirt that shows
    through its jacket) takes that one's.

    Skin keeps its own: an ear in long hair is one. place: of each face's edges, as `_edges_of_faces` gives it.
    """
    count = int(place.max()) + 1
    first, second = _least_and_most(torch.arange(mesh.num_faces).repeat_interleave(3), place.flatten(), count)
    across = (first + second)[place] - torch.arange(mesh.num_faces)[:, None]  # the three faces beside each
    for _ in range(TEETH):
        beside = labels[across]
        agreed = torch.where(beside[:, 0] == beside[:, 1], beside[:, 0], beside[:, 2])
        labels = torch.where((beside == agreed[:, None]).sum(1) >= 2, agreed, labels)
    same = labels[first] == labels[second]
    piece = connected_components(torch.stack([first, first, second], 1)[same], mesh.num_faces)
    areas = torch.zeros(mesh.num_faces).index_add(0, piece, face_areas(mesh.vertices, mesh.faces))
    a, b = first[~same], second[~same]
    low, high = _least_and_most(torch.cat([labels[b], labels[a]]), torch.cat([piece[a], piece[b]]), mesh.num_faces)
    lone = (low == high) & (areas < ISLAND)
    return torch.where(lone[piece] & (labels != SKIN), low[piece], labels)


def _refined(surface: LabelledSurface, skin: _Layer, body: Body) -> LabelledSurface:
    """Skin of head and hands in half the edges, that of the face in a quarter, on the body's own surface."""
    slit = _slit_of_mouth(len(body.vertices))
    for parts in (("head", "hands"), ("face",)):
        chosen = region_vertices(body, parts)[skin.mesh.faces].all(1)
        mesh, labels = surface.mesh, surface.labels
        own = labels == SKIN
        centres = mesh.vertices[mesh.faces[own]].mean(1)
        marked = own.clone()
        marked[own] = chosen[skin.distance.closest(centres).face]
        mesh, parent = split_faces(mesh, marked)
        labels = labels[parent]
        free = torch.ones(mesh.num_vertices, dtype=torch.bool)
        free[mesh.faces[labels != SKIN]] = False  # they hold the seam with cloth and hair together
        touched = torch.zeros_like(free)
        touched[mesh.faces[marked[parent]]] = True
        moved = (free & touched).nonzero()[:, 0]
        closest = skin.distance.closest(mesh.vertices[moved])
        in_slit = slit[skin.mesh.faces[closest.face]].any(1)
        close = ~in_slit & ((closest.point - mesh.vertices[moved]).norm(dim=1) < SHEET)
        vertices = mesh.vertices.clone()
        # Not quite: two vertices with one nearest point must not become one.
        vertices[moved[close]] = torch.lerp(mesh.vertices[moved], closest.point, NEARLY)[close]
        between_lips = torch.zeros_like(free)
        between_lips[moved[in_slit]] = True
        surface = LabelledSurface(_smoothed(Mesh(vertices, mesh.faces), between_lips, STEPS), labels)
    return surface


def split_faces(mesh: Mesh, marked: Bool[Tensor, " F"]) -> tuple[Mesh, Int64[Tensor, " G"]]:
    """Marked triangles in four through the middles of their edges, their neighbours in two or three so that the surface
    stays closed (red-green refinement, Bank 1983); and of each new face the old one."""
    edges, place = _edges_of_faces(mesh.faces)
    split = torch.zeros(len(edges), dtype=torch.bool)
    split[place[marked]] = True
    new = torch.where(split, split.cumsum(0) - 1 + mesh.num_vertices, -1)[place]
    pieces, parents = [], []
    for pattern in range(8):
        rows = ((new >= 0) * torch.tensor([1, 2, 4])).sum(1).eq(pattern).nonzero()[:, 0]
        corners = torch.cat([mesh.faces[rows], new[rows]], 1)  # 0..2 the corners, 3..5 the middles of edges
        for triangle in _SPLITS[pattern]:
            pieces.append(corners[:, list(triangle)])
            parents.append(rows)
    vertices = torch.cat([mesh.vertices, mesh.vertices[edges[split]].mean(1)])
    return Mesh(vertices, torch.cat(pieces)), torch.cat(parents)


# By which edges (bits 0..2) are split: triangles of corners 0, 1, 2 and middles 3 (of 0 1), 4 (of 1 2), 5 (of 2 0).
_SPLITS = (
    ((0, 1, 2),),
    ((0, 3, 2), (3, 1, 2)),
    ((0, 1, 4), (0, 4, 2)),
    ((3, 1, 4), (0, 3, 4), (0, 4, 2)),
    ((0, 1, 5), (5, 1, 2)),
    ((0, 3, 5), (3, 1, 2), (3, 2, 5)),
    ((5, 4, 2), (0, 1, 4), (0, 4, 5)),
    ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5)),
)


def _one_a_cell(points: Float[Tensor, "N 3"], lattice: Lattice) -> Float[Tensor, "M 3"]:
    """Of the points in each cell of the lattice one."""
    _, cell = torch.unique(keys_from_addresses(lattice.cells_at(points)), return_inverse=True)
    first = torch.full((int(cell.max()) + 1,), len(points)).scatter_reduce(0, cell, torch.arange(len(points)), "amin")
    return points[first]


def _labels(mesh: Mesh, layers: Sequence[_Layer]) -> Int64[Tensor, " F"]:
    """Of each face the label of the layer whose surface it is."""
    centres = mesh.vertices[mesh.faces].mean(1)
    least = torch.full_like(centres[:, 0], torch.inf)
    labels = torch.full((mesh.num_faces,), SKIN)
    for layer in layers:
        near = _within(centres, layer, SHEET).nonzero()[:, 0]
        values = layer(centres[near])
        first = near[values < least[near]]
        least[first] = values[values < least[near]]
        labels[first] = layer.labels_at(centres[first])
    return labels


def _least(layers: Sequence[_Layer]) -> SignedField:
    """The union of solids: of the right sign everywhere, and the distance near its surface."""

    def union(points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        values = torch.full_like(points[:, 0], 0.1)  # beyond all that a band asks for
        for layer in layers:
            near = _within(points, layer, 0.1).nonzero()[:, 0]
            # The box around a layer is nearer than the layer itself.
            near = near[_box_distance(points[near], layer) <= values[near].clamp_min(0)]
            values[near] = torch.minimum(values[near], layer(points[near]))
        return values

    return union


def _within(points: Float[Tensor, "N 3"], layer: _Layer, margin: float) -> Bool[Tensor, " N"]:
    low, high = layer.box[0] - margin, layer.box[1] + margin
    return ((points > low) & (points < high)).all(1)


def _box_distance(points: Float[Tensor, "N 3"], layer: _Layer) -> Float[Tensor, " N"]:
    low, high = layer.box
    return torch.maximum(low - points, points - high).clamp_min(0).norm(dim=1)


class _Remembering:
    """A field that is asked for the vertices of a lattice, each of which it is asked for several times."""

    def __init__(self, field: SignedField, lattice: Lattice) -> None:
        self._field, self._lattice = field, lattice
        self._keys = torch.empty(0, dtype=torch.int64)
        self._values = torch.empty(0)

    def __call__(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        # Half a cell along all axes of the lattice, so that rounding cannot name the vertex beside.
        keys = keys_from_addresses(self._lattice.cells_at(points + self._lattice.cell_size / 4))
        place = torch.searchsorted(self._keys, keys).clamp(max=max(0, len(self._keys) - 1))
        known = self._keys[place] == keys if len(self._keys) else torch.zeros_like(keys, dtype=torch.bool)
        values = torch.empty(len(points))
        values[known] = self._values[place[known]]
        values[~known] = self._field(points[~known])
        merged, order = torch.cat([self._keys, keys[~known]]).sort()
        self._keys, self._values = merged, torch.cat([self._values, values[~known]])[order]
        return values
