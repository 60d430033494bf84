"""A figure gets its skeleton: the body is found in it, and it moves as the body in it would."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from humannorm.body import Body, load_body, named_pose
from humannorm.body.clips import Clip, clip_transforms, still
from humannorm.body.gait import make_gait
from humannorm.body.linear_blend_skinning import check_weights, linear_blend_skinning
from humannorm.body.rigs import load_rig
from humannorm.body.skeleton import local_rotations
from humannorm.body.skin_binding import SkinBinding
from humannorm.checks import InputError
from humannorm.distance.signed_distance import SignedDistance
from humannorm.mesh import Mesh, unique_edges
from humannorm.rigging import BodyFitSettings, RiggedHuman, fit_body, rig_human, transfer_weights
from humannorm.rigging.human import near_folds
from humannorm.rigging.transfer import smoothed_weights

HEIGHT = 1.8


@pytest.mark.slow
def test_the_body_is_found_under_the_clothes(rigged: RiggedHuman, model: Body) -> None:
    away = (rigged.body.vertices - model.vertices).norm(dim=1)
    # Measured 0.6 % of the height on average; the neutral start is 2 % away.
    assert float(away.mean()) < 0.01 * HEIGHT
    joints = [model.joint_names.index(f"{name}.{side}") for name in ("upperarm01", "wrist", "foot") for side in "LR"]
    assert float((rigged.body.joints - model.joints)[joints].norm(dim=1).max()) < 0.025 * HEIGHT
    assert 0 < rigged.fit.median_depth < 0.02
    assert rigged.fit.outside < 0.02


@pytest.mark.slow
def test_the_fit_follows_a_figure_into_its_own_frame_and_units(dressed: Mesh, rigged: RiggedHuman) -> None:
    shift = torch.tensor([3.0, -1.0, 0.5])
    elsewhere = fit_body(Mesh(100 * dressed.vertices + shift, dressed.faces))
    back = (elsewhere.body.vertices - shift) / 100
    assert float((back - rigged.body.vertices).norm(dim=1).mean()) < 0.01 * HEIGHT
    assert elsewhere.median_depth == pytest.approx(rigged.fit.median_depth, abs=3e-3)


@pytest.mark.slow
def test_another_stated_pose(model: Body) -> None:
    """A figure in the run pose, its start passed along."""
    running = model.posed(named_pose("run"), "run").in_working_box()
    fit = fit_body(running.to_mesh(normalized=False), load_body(pose="run").in_working_box())
    assert float((fit.body.vertices - running.vertices).norm(dim=1).mean()) < 0.01 * HEIGHT


@pytest.mark.slow
def test_identity_is_the_bind_pose(rigged: RiggedHuman) -> None:
    body = rigged.body
    pose = local_rotations(body.transforms[:, :3, :3], body.parents)
    root = body.joints[0] - body.rest_joints[0]
    motion = rigged.motion(Clip("bind", pose[None], root[None], 1.0))
    torch.testing.assert_close(motion.rotations[0], torch.eye(3).expand_as(motion.rotations[0]), atol=1e-4, rtol=0)
    (mesh,) = rigged.frames(motion)
    torch.testing.assert_close(mesh.vertices, rigged.mesh.vertices, atol=1e-4, rtol=0)


def in_skirt(human: RiggedHuman) -> Tensor:
    vertices = human.mesh.vertices
    knee, waist = human.body.joint("lowerleg01.L")[1], human.body.joint("spine05")[1]
    return (vertices[:, 1] > knee - 0.03) & (vertices[:, 1] < waist) & (vertices[:, [0, 2]].norm(dim=1) < 0.26)


@pytest.mark.slow
@pytest.mark.parametrize("pose", ["run", "sit", "fight"])
def test_poses_tear_nothing_and_leave_nothing_behind(rigged: RiggedHuman, model: Body, pose: str) -> None:
    clip = still(pose, named_pose(pose), rigged.body)
    posed = rigged.posed(clip).vertices
    bind = rigged.mesh.vertices
    edges = unique_edges(rigged.mesh.faces)
    before, after = ((v[edges[:, 0]] - v[edges[:, 1]]).norm(dim=1) for v in (bind, posed))
    long = before > 0.25 * before.median()  # slivers of the lattice say nothing
    stretch = after / before
    skirt = in_skirt(rigged)[edges].all(1)
    folds = near_folds(bind, rigged.body, 0.13 / HEIGHT)[edges].any(1)
    body = stretch[long & ~folds & ~skirt]
    assert float((body > 3).float().mean()) < 5e-4 and float(body.max()) < 4
    # A wide skirt has to give where it bridges two legs that part.
    assert float((stretch[long & skirt] > 3).float().mean()) < 0.01 and float(stretch[long & skirt].max()) < 4.5
    # Against the true body's own motion: the skin stays as far off it as the clothes do.
    truth = linear_blend_skinning(
        model.vertices,
        clip_transforms(clip, rigged.body)[0] @ torch.linalg.inv(rigged.body.transforms),
        model.weight_joints,
        model.weights,
    )
    reach = SignedDistance(posed, rigged.mesh.faces, inside_out="flip").closest(truth)
    left_behind = (reach.point - truth).norm(dim=1)
    assert float(left_behind.quantile(0.95)) < 0.02 * HEIGHT
    assert float(left_behind.max()) < 0.07 * HEIGHT


@pytest.mark.slow
def test_weights_are_sound_and_a_skirt_does_not_follow_the_hands(rigged: RiggedHuman) -> None:
    skin = rigged.skin
    check_weights(skin.weight_joints, skin.weights, 163)
    assert bool((skin.weights[:, :-1] >= skin.weights[:, 1:]).all())
    knee, waist = rigged.body.joint("lowerleg01.L")[1], rigged.body.joint("spine05")[1]
    vertices = rigged.mesh.vertices
    skirt = (vertices[:, 1] > knee) & (vertices[:, 1] < waist) & (vertices[:, [0, 2]].norm(dim=1) < 0.25)
    arm = torch.tensor([n.startswith(("wrist", "finger", "metacarpal", "lowerarm")) for n in skin.joint_names])
    share = (skin.weights * arm[skin.weight_joints]).sum(1)
    assert float(share[skirt].mean()) < 0.01
    hem = skirt & (vertices[:, 1] < knee + 0.05) & (vertices[:, 0].abs() < 0.02) & (vertices[:, 2] > 0.1)
    left = torch.tensor([n.endswith(".L") for n in skin.joint_names])
    middle = (skin.weights * left[skin.weight_joints]).sum(1)[hem]
    assert len(middle) > 3 and 0.2 < float(middle.mean()) < 0.8  # bridges the legs instead of splitting


@pytest.mark.few(1)
@pytest.mark.parametrize("pose", ["run", "sit", "fight"])
def test_the_body_itself_moves_by_copied_weights_as_by_its_own(model: Body, pose: str) -> None:
    """What is lost is what smoothing blurs, at the joints."""
    joints, weights = transfer_weights(Mesh(model.vertices, model.faces), model, load_rig("makehuman"))
    frame = clip_transforms(still(pose, named_pose(pose), model), model)[0] @ torch.linalg.inv(model.transforms)
    own, copied = (
        linear_blend_skinning(model.vertices, frame, index, value)
        for index, value in ((model.weight_joints, model.weights), (joints, weights))
    )
    away = (own - copied).norm(dim=1)
    assert float(away.mean()) < 0.005 * HEIGHT and float(away.max()) < 0.05 * HEIGHT


def test_seams_get_the_same_weights(model: Body) -> None:
    cut = model.to_mesh(normalized=False, uvs=True)
    joints, weights = transfer_weights(cut, model, load_rig("mixamo"))
    for seam in range(len(model.vertices) - 50, len(model.vertices)):
        (copies,) = torch.where(model.uv_vertices == seam)
        assert bool((joints[copies] == joints[copies[0]]).all() and (weights[copies] == weights[copies[0]]).all())


def test_smoothing_keeps_sums_and_fills_what_is_not_trusted() -> None:
    """A flat strip whose ends belong to two joints and whose middle knows nothing: a straight ramp."""
    count = 41
    x = torch.linspace(0, 1, count)
    vertices = torch.stack([torch.cat([x, x]), torch.cat([0 * x, 0 * x + 0.025]), torch.zeros(2 * count)], 1)
    first = torch.arange(count - 1)
    faces = torch.cat(
        [
            torch.stack([first, first + 1, first + count], 1),
            torch.stack([first + 1, first + 1 + count, first + count], 1),
        ]
    )
    copied = torch.zeros(2 * count, 2)
    copied[:, 0], copied[:, 1] = 0.5, 0.5
    ends = torch.cat([x, x])
    copied[ends < 0.1], copied[ends > 0.9] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    trust = torch.where((ends < 0.1) | (ends > 0.9), 1.0, 1e-9)
    smooth = torch.from_numpy(smoothed_weights(copied.numpy(), trust.numpy(), vertices.numpy(), faces.numpy(), 0.01))
    torch.testing.assert_close(smooth.sum(1), torch.ones(2 * count, dtype=torch.float64), atol=1e-9, rtol=0)
    slope = (smooth[13:28, 1] - smooth[12:27, 1]) * (count - 1)
    torch.testing.assert_close(slope, torch.full_like(slope, 1.25), atol=0.15, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["game_engine", "mixamo"])
def test_other_rigs_move_alike(rigged: RiggedHuman, name: str) -> None:
    """The same walk on another skeleton: the surface is nearly where MakeHuman's own joints put it."""
    rig = load_rig(name)
    joints, weights = transfer_weights(rigged.mesh, rigged.body, rig)
    skin = SkinBinding(rig.joint_names, rig.parents, rig.heads(rigged.body), joints, weights)
    other = RiggedHuman(rigged.mesh, rigged.fit, rig, skin)
    clip = make_gait("walk", rigged.body).in_place()
    for frame in (0, 10):
        away = (other.posed(clip, frame).vertices - rigged.posed(clip, frame).vertices).norm(dim=1)
        assert float(away.median()) < 0.01 * HEIGHT and float(away.quantile(0.99)) < 0.05 * HEIGHT


@pytest.mark.slow
def test_a_human_bound_in_another_pose_moves_as_before(rigged: RiggedHuman) -> None:
    """Its joints are those of the posed body, and its film is that of the first binding but for blending twice."""
    bound = rigged.bound_in("t-pose")
    span = bound.mesh.vertices.amax(0) - bound.mesh.vertices.amin(0)
    assert float(span[0]) > 0.9 * float(span[1])  # arms outstretched
    wrists = [bound.skin.joint_names.index(name) for name in bound.skin.joint_names if name.startswith("wrist")]
    assert float((bound.skin.joints[wrists] - bound.rig.heads(bound.body)[wrists]).abs().max()) == 0
    clip = make_gait("walk", rigged.body).in_place()
    away = (bound.posed(clip, 5).vertices - rigged.posed(clip, 5).vertices).norm(dim=1)
    assert float(away.median()) < 0.01 * HEIGHT and float(away.quantile(0.95)) < 0.04 * HEIGHT


def test_what_cannot_be_a_standing_human_is_refused(dressed: Mesh) -> None:
    lying = Mesh(dressed.vertices[:, [0, 2, 1]], dressed.faces[:, [0, 2, 1]])
    with pytest.raises(InputError, match="mesh: expected a standing human, .* tall"):
        rig_human(lying)
    x, y, z = dressed.vertices.unbind(1)
    column = Mesh(torch.stack([0.3 * torch.sign(x), y, 0.3 * torch.sign(z)], 1), dressed.faces)
    with pytest.raises(InputError, match="mesh: expected a standing human, .* whose top is"):
        rig_human(column)


@pytest.mark.slow
def test_a_chess_pawn_is_no_human() -> None:
    import trimesh

    ball, foot = trimesh.creation.icosphere(3, 0.2), trimesh.creation.cylinder(0.3, 1.2).subdivide().subdivide()
    foot.apply_transform(trimesh.transformations.rotation_matrix(torch.pi / 2, (1, 0, 0)))
    ball.apply_translation((0, 0.8, 0))
    pawn = trimesh.util.concatenate([ball, foot])
    mesh = Mesh(torch.tensor(pawn.vertices).float(), torch.tensor(pawn.faces).long())
    quickly = BodyFitSettings(steps=20, vertices=500)
    with pytest.raises(InputError, match="mesh: expected a standing human, .* that the body does not fit"):
        rig_human(mesh, fit=quickly)
    assert fit_body(load_body().to_mesh(), settings=quickly).apart < 0.03


def test_bad_input_is_refused(dressed: Mesh) -> None:
    with pytest.raises(InputError, match="rig: expected one of"):
        rig_human(dressed, "biped")
    flat = Mesh(dressed.vertices * torch.tensor([1.0, 0.0, 1.0]), dressed.faces)
    with pytest.raises(InputError, match="expected a height above 0 along Y"):
        fit_body(flat)
    with pytest.raises(InputError, match="steps: expected 0 to"):
        BodyFitSettings(steps=-1)


@pytest.mark.few(1)
@pytest.mark.parametrize("gap", [0.002, 0.02, 0.05])
def test_a_piece_beside_a_fingertip_follows_it_as_one(gap: float) -> None:
    """A small ball before a finger, of a human with arms aside: its weights are those of the fingertip."""
    body = load_body(pose="t-pose")
    tip = int(body.vertices[:, 0].argmax())
    corners = torch.nn.functional.normalize(torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]), dim=1)
    ball = body.vertices[tip] + torch.tensor([gap + 0.02, 0, 0]) + 0.02 * corners
    faces = torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]) + len(body.vertices)
    mesh = Mesh(torch.cat([body.vertices, ball]), torch.cat([body.faces, faces]))
    rig = load_rig("makehuman")
    joints, weights = transfer_weights(mesh, body, rig)
    assert bool((joints[-4:] == joints[-1]).all()) and bool((weights[-4:] == weights[-1]).all())
    heaviest = rig.joint_names[int(joints[-1, 0])]
    assert heaviest.startswith("finger") and heaviest.endswith(".L")
