"""A painting that is a texture of one mesh, as colours in space: what another, a little changed surface can begin from.

The hash field is fitted to the texture's colours at points drawn over the surface, by plain least squares in sRGB.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from humannorm.checks import check_range
from humannorm.geometry.start import sample_surface
from humannorm.mesh import Mesh
from humannorm.texture.fields import HashColorSettings, UvColorField, make_color_field
from humannorm.texture.settings import TextureSettings
from humannorm.texture.state import TextureState

__all__ = ["CarrySettings", "carried", "in_space"]


@dataclass(frozen=True)
class CarrySettings:
    """All numbers are ours; on striped skin, harder than what is painted, the mean colour is then 3 of 255 off."""

    steps: int = 100
    points: int = 16_384  # of the surface, drawn anew for each step

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1, 100_000)
        check_range("points", self.points, 1, 10_000_000)


def carried(
    finished: TextureState,
    mesh: Mesh,
    settings: TextureSettings,
    generator: torch.Generator,
    carry: CarrySettings = CarrySettings(),
) -> TextureState:
    """The colours on another surface, in any frame: as `TextureState.on`, and a texture of another mesh too."""
    if isinstance(finished.field, UvColorField) and not finished.is_on(mesh):
        finished = in_space(finished, settings, generator, carry)
    return finished.on(mesh)


def in_space(
    state: TextureState,
    settings: TextureSettings,
    generator: torch.Generator,
    carry: CarrySettings = CarrySettings(),
) -> TextureState:
    """The same colours in the settings' hash field, or the published one where they name another kind; trained at the
    settings' learning rates."""
    own = settings.field if isinstance(settings.field, HashColorSettings) else HashColorSettings()
    field = make_color_field(own, state.mesh, generator)
    fast = field.fast_parameters()
    slow = [each for each in field.parameters() if all(each is not other for other in fast)]
    optimiser = torch.optim.Adam(
        [{"params": fast, "lr": settings.encoding_rate}, {"params": slow, "lr": settings.network_rate}], fused=False
    )
    for _ in range(carry.steps):
        points = sample_surface(state.mesh, carry.points, generator)
        loss = (field(points) - state.field.at(points)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return replace(state, field=field, step=0, targets=None, moments=None, history=None)
