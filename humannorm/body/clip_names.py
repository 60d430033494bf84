"""Clips by their names: gaits, named poses, motion files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from humannorm.body.body import POSES, Body, named_pose
from humannorm.body.clips import Clip, still
from humannorm.body.gait import GAITS, make_gait
from humannorm.body.retarget import clip_of_bvh
from humannorm.checks import InputError

__all__ = ["BVH_SUFFIX", "CLIP_NAMES", "clips_named"]

BVH_SUFFIX = ".bvh"
CLIP_NAMES = (*GAITS, *POSES)


def clips_named(
    text: str,
    body: Body,
    up: str | None = None,
    *,
    argument: str = "clips",
    find: Callable[[str], Path] = Path,
    joints: Mapping[str, str] | None = None,
) -> list[Clip]:
    """'walk,sit,dance.bvh' as clips of a body, each once.

    up: vertical axis of motion files, see `clip_of_bvh`. argument: what a message calls the text. find: the file behind
    a motion file's name. joints: a motion file's joint -> ours, where its names do not tell.
    """
    clips = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        if word in GAITS:
            clip = make_gait(word, body)
        elif word in POSES:
            clip = still(word, named_pose(word), body)
        elif word.lower().endswith(BVH_SUFFIX):
            clip = clip_of_bvh(find(word), body, up, joints)
        else:
            raise InputError(f"{argument}: expected {', '.join(CLIP_NAMES)} or a {BVH_SUFFIX} file, got {word!r}")
        clips[clip.name] = clip
    if not clips:
        raise InputError(f"{argument}: expected at least one clip, got {text!r}")
    return list(clips.values())
