"""Parametric adult bodies, skeletons and skinning."""

from __future__ import annotations

from humannorm.body.body import POSES, Body, load_body, named_pose, plan_for_body
from humannorm.body.shape import BodyShape
from humannorm.body.words import shape_of_words, with_pose, worn_of_words

__all__ = [
    "POSES",
    "Body",
    "BodyShape",
    "load_body",
    "named_pose",
    "plan_for_body",
    "shape_of_words",
    "with_pose",
    "worn_of_words",
]
