"""What ControlNets are shown: pictures of a surface, and of the skeleton in it, in the encodings that they were trained
on."""

from __future__ import annotations

from humannorm.controls.openpose import BODY_KEYPOINTS, Keypoints, body_keypoints, draw_openpose, hidden_left_out
from humannorm.controls.pictures import CONTROL_KINDS, ControlKind, control_picture, more_controls

__all__ = [
    "BODY_KEYPOINTS",
    "CONTROL_KINDS",
    "ControlKind",
    "Keypoints",
    "body_keypoints",
    "control_picture",
    "draw_openpose",
    "hidden_left_out",
    "more_controls",
]
