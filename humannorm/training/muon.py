"""Muon with Adam: matrices step along the orthogonalised momentum, everything else as AdamW does.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); scale of the step after J. Liu et
al., "Muon is scalable for LLM training" (2025, arXiv 2502.16982, eq. 4), so that one learning rate serves both kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["ADAM_RMS", "Muon", "hidden_matrices", "orthogonalised"]

ADAM_RMS = 0.2
"""Root mean square of an AdamW step before the learning rate, as measured by Liu et al. (section 2.2)."""

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan's iteration: singular values land in about [0.7, 1.2] after five rounds."""


class Muon(torch.optim.Optimizer):
    """`matrices` (two or more axes; convolution kernels count as out x (in * k * k)) by Muon, `others` by AdamW.

    Several processes share the orthogonalisation: each does its part of the matrices, and the steps are added up.
    Gradients must already be the same everywhere.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "momentum": momentum, "weight_decay": weight_decay, "eps": eps}
        groups = [{"params": list(matrices), "orthogonal": True}, {"params": list(others), "orthogonal": False}]
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step of all parameters that have a gradient."""
        if closure is not None:
            raise ValueError("closure: expected none, got one; call backward before step")
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            steps = self._orthogonal(parameters, group) if group["orthogonal"] else self._adam(parameters, group)
            torch._foreach_mul_(parameters, 1.0 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, steps, alpha=-group["lr"])

    def _orthogonal(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> list[Tensor]:
        rank, world = 0, 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        sizes = [parameter.numel() for parameter in parameters]
        flat = torch.zeros(sum(sizes), device=parameters[0].device)
        steps = [part.view_as(value) for part, value in zip(flat.split(sizes), parameters, strict=True)]
        by_cost = sorted(range(len(parameters)), key=lambda i: -_cost(parameters[i]))
        mine = set(by_cost[rank::world])
        for index, parameter in enumerate(parameters):
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            gradient = _gradient(parameter)
            state["momentum"].lerp_(gradient, 1.0 - group["momentum"])
            if index in mine:
                nesterov = torch.lerp(gradient, state["momentum"], group["momentum"]).flatten(1)
                scale = ADAM_RMS * max(nesterov.shape) ** 0.5
                steps[index].copy_((scale * orthogonalised(nesterov)).view_as(parameter))
        if world > 1:
            torch.distributed.all_reduce(flat)
        return steps

    def _adam(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> list[Tensor]:
        steps = []
        first, second = group["betas"]
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            gradient = _gradient(parameter)
            state["step"] += 1
            count = float(state["step"])
            state["exp_avg"].lerp_(gradient, 1.0 - first)
            state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1.0 - second)
            spread = (state["exp_avg_sq"] / (1.0 - second**count)).sqrt_().add_(group["eps"])
            steps.append(state["exp_avg"] / spread / (1.0 - first**count))
        return steps


def orthogonalised(matrix: Float[Tensor, "M N"], rounds: int = 5) -> Float[Tensor, "M N"]:
    """About U V^T of the matrix's singular value decomposition U S V^T, by a quintic Newton-Schulz iteration."""
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-12)
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def hidden_matrices(module: nn.Module, outer: tuple[str, ...]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trained parameters that suit Muon, and the rest: vectors, embeddings, and layers whose name has one of `outer`.

    First and last layers keep Adam, as Jordan advises.
    """
    embeddings = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Embedding)}
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        hidden = parameter.ndim >= 2 and id(parameter) not in embeddings and not any(word in name for word in outer)
        (matrices if hidden else others).append(parameter)
    return matrices, others


def _gradient(parameter: nn.Parameter) -> Tensor:
    """The gradient of a parameter that has one."""
    assert parameter.grad is not None
    return parameter.grad


def _cost(parameter: Tensor) -> float:
    """Relative work of orthogonalising."""
    rows, columns = parameter.shape[0], parameter[0].numel()
    small, large = min(rows, columns), max(rows, columns)
    return small * small * large
