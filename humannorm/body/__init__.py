"""Parametric adult bodies, skeletons and skinning."""

from __future__ import annotations

from humannorm.body.body import POSES, Body, load_body, named_pose, plan_for_body
from humannorm.body.captioned import captioned, pose_of_words
from humannorm.body.outfit import Outfit, completed
from humannorm.body.outfit_words import check_people, outfit_of_words, told_of_people, words_of_outfit
from humannorm.body.shape import BodyShape
from humannorm.body.words import shape_of_words, with_pose, words_of_shape

__all__ = [
    "POSES",
    "Body",
    "BodyShape",
    "Outfit",
    "captioned",
    "check_people",
    "completed",
    "load_body",
    "named_pose",
    "outfit_of_words",
    "plan_for_body",
    "pose_of_words",
    "shape_of_words",
    "told_of_people",
    "with_pose",
    "words_of_outfit",
    "words_of_shape",
]
