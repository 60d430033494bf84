"""The one network of the paper: a hash grid and a hidden layer on it. Distances, colours and offsets are read from it.

Mueller et al. 2022, "Instant neural graphics primitives": W2 relu(W1 encode(x)), without biases.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from humannorm.fields.hash_grid import FEATURES, Engine, GridLayout, HashGridEncoding

__all__ = ["HashNetwork"]


class HashNetwork(nn.Module):
    """f(x) = W2 relu(W1 encode(x)) at points of the working box, K numbers for each.

    zero: whether the output layer starts at zero instead of Xavier-uniform, as tiny-cuda-nn starts it.
    """

    def __init__(
        self,
        layout: GridLayout,
        hidden: int,
        outputs: int,
        generator: torch.Generator,
        *,
        zero: bool = False,
        engine: Engine = "warp",
    ) -> None:
        super().__init__()
        self.layout = layout
        self.encoding = HashGridEncoding(layout, generator, engine)
        self.hidden = nn.Linear(FEATURES * layout.levels, hidden, bias=False, device=generator.device)
        nn.init.xavier_uniform_(self.hidden.weight, generator=generator)
        self.output = nn.Linear(hidden, outputs, bias=False, device=generator.device)
        if zero:
            nn.init.zeros_(self.output.weight)
        else:
            nn.init.xavier_uniform_(self.output.weight, generator=generator)

    def network(self, points: Float[Tensor, "N 3"], active_levels: int | None = None) -> Float[Tensor, "N K"]:
        """The network's numbers at world points; levels past `active_levels` (None: all count) are left out."""
        features = self.encoding((points + 1.0) / 2.0, active_levels)
        values: Tensor = self.output(torch.relu(self.hidden(features)))
        return values
