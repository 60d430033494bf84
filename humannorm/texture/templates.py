"""Held regions of a template body in their own skin: painted faces and hands beside what a network paints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from humannorm.geometry.holding import Hold, template_in_skin
from humannorm.texture.fields import TemplateColorField
from humannorm.texture.state import TextureState
from humannorm.texture.template_skin import TemplateSkin

__all__ = ["held_skin", "with_painted_template"]


BARE = 0.75  # how far bare skin that is not held stays in its tone: networks paint legs in the colour of a skirt


def held_skin(
    hold: Hold | None, tone: str, is_skin: Callable[[Tensor], Tensor] | None = None
) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    """What the sculpting held of a template body, in that body's skin: colours at points and how far they stay.

    tone: one of `SKIN_TONES`. is_skin: which points [N, 3] are bare; with it all bare skin stays near its tone, and
    hair, collars and cuffs that lie close to what is held do not. None where nothing was held, or something else than a
    template body.
    """
    found = None if hold is None else template_in_skin(hold, tone)
    if hold is None or found is None:
        return None
    skin = TemplateSkin(*found)

    def held(points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"]]:
        colors, opacity = skin(points)
        share = opacity * hold.share_at(points)
        return colors, share if is_skin is None else share.clamp_min(BARE) * is_skin(points)

    return held


def with_painted_template(state: TextureState, hold: Hold | None, tone: str) -> TextureState:
    """A fresh texture state in which what the sculpting held of a template body wears that body's skin.

    tone: one of `SKIN_TONES`. The state as it is where nothing was held, or something else than a template body.
    """
    found = None if hold is None else template_in_skin(hold, tone)
    if hold is None or found is None:
        return state
    template, opacity = found
    device = state.mesh.device
    field = TemplateColorField.over(state.field, template.to(device), opacity.to(device), hold.share.to(device))
    return replace(state, field=field)
