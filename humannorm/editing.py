"""An edit of a finished human: other words for some of what it wears; who it is and all else stays as it was painted.

The person (body, pose, skin, seed) is the run's. What the words name takes the place of what was worn there. The rest
of the outfit is the run's too, and of that the painting keeps its colours, texel by texel.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from humannorm.body import BodyShape, Outfit, outfit_of_words, words_of_outfit, words_of_shape
from humannorm.body.outfit import changed
from humannorm.checks import InputError
from humannorm.labels import LABELS, label_number
from humannorm.request import FROM_MODEL, RECORD, HumanJob, HumanRequest, HumanSettings, KeptPainting, job_of

__all__ = ["asked_job", "changed_labels", "edited_job", "edited_words", "request_of_run"]

PAINTING = Path("work") / "paint.safetensors"


def asked_job(request: HumanRequest, settings: HumanSettings | None = None) -> HumanJob:
    """The job of any request, of an edit too. settings: as in `job_of`."""
    return edited_job(request, settings) if request.edits else job_of(request, settings)


def edited_job(request: HumanRequest, settings: HumanSettings | None = None) -> HumanJob:
    """The job of a request that edits a run (`HumanRequest.edits`): its prompt is the whole person's afterwards.

    request: its prompt says what changes, such as "a green hoodie" or "white sneakers, no hat". Of the other fields
    those that say who the person is are the run's. settings: as in `job_of`.
    """
    run = Path(request.edits)
    before = dataclasses.replace(request_of_run(run), edits="")
    first = job_of(before, settings)
    shape = None if first.body is None else first.body.shape
    if shape is None or not first.outfit.pieces:
        raise InputError(f"edits: expected a run of a dressed body, got {run}")
    if not (run / PAINTING).exists():
        raise InputError(f"edits: expected {run / PAINTING}, the run's painting, got none (work/ was deleted)")
    whole = dataclasses.replace(
        request,
        prompt=edited_words(before.prompt, request.prompt, shape),
        seed=before.seed,
        preset=before.preset,
        models=before.models,
        body=shape,
        pose=before.pose,
        frame=before.frame,
        outfit=before.outfit,
        hold=before.hold,
        skin=first.skin or FROM_MODEL,
        sculpt_steps=before.sculpt_steps,
        method=before.method,
        edits="",
    )
    job = job_of(whole, settings)
    kept = KeptPainting(run / PAINTING, changed_labels(first.outfit, job.outfit))
    return dataclasses.replace(job, request=dataclasses.replace(whole, edits=request.edits), kept=kept)


def edited_words(before: str, change: str, shape: BodyShape) -> str:
    """The words for a whole person after an edit. before: those that it was made of; change: what it wears anew."""
    said = outfit_of_words(change)
    if not (said.pieces or said.bald or said.barefoot):
        raise InputError(f"prompt: expected clothes, shoes or hair that change, got {change!r}")
    return f"{words_of_shape(shape)} wearing {words_of_outfit(changed(outfit_of_words(before), said))}"


def changed_labels(before: Outfit, after: Outfit) -> frozenset[int]:
    """Numbers of the labels that are not worn as they were."""

    def look(outfit: Outfit, label: str) -> set[Any]:
        return {(each.cut, each.colours, each.pattern, each.material) for each in outfit.of(label)}

    return frozenset(label_number(label) for label in LABELS if look(before, label) != look(after, label))


def request_of_run(out: Path) -> HumanRequest:
    """What the run in a folder was asked for."""
    try:
        plain = json.loads((out / RECORD).read_text(encoding="utf-8"))["request"]
        if not isinstance(plain, dict) or not isinstance(plain.get("prompt"), str):
            raise TypeError("no prompt in its request")
        return HumanRequest(**_fields(plain))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{out}: expected a folder of `generate` with its {RECORD}, got another ({error})") from error


def _fields(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a request as JSON has them, as its fields have them."""
    known = {each.name for each in dataclasses.fields(HumanRequest)}
    found = {name: value for name, value in plain.items() if name in known}
    if isinstance(found.get("body"), Mapping):
        found["body"] = BodyShape(**found["body"])
    if found.get("hold") is not None:
        found["hold"] = tuple(found["hold"])
    return found
