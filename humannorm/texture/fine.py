"""The fine texture loss (equation 10) at multi-step targets, in the two readings of the equation.

The paper weighs the residual between the render and its multi-step denoising by omega(t), and adds lambda_p times the
distance of VGG features. The published code has neither omega nor a loss on latents: mean absolute difference of pixels
plus LPIPS, at targets that are kept and seldom renewed. Both are here:

- "published" (the default): pixels. Sharp details of the decoded target reach the texture directly, no gradient passes
  through the VAE's encoder, and the value is bounded.
- "paper": latents, omega(t) = sds_weight, with the gradient through the encoder. Means instead of sums over latents, so
  that lambda_p weighs the same against both.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError, check_choice
from humannorm.guidance import Denoiser
from humannorm.guidance.targets import Target
from humannorm.texture.perceptual import Perceptual
from humannorm.texture.settings import FINE_LOSSES, FineLoss

__all__ = ["fine_loss"]


def fine_loss(
    kind: FineLoss,
    denoiser: Denoiser,
    pictures: Float[Tensor, "B S S 3"],
    target: Target,
    perceptual: Perceptual,
    *,
    fidelity_weight: float,
    perceptual_weight: float,
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Equation 10 in one of its two readings, and its two terms unweighted (`fidelity`, `perceptual`)."""
    check_choice("fine_loss", kind, FINE_LOSSES)
    if target.images.shape != pictures.shape:
        raise InputError(f"target: expected images {list(pictures.shape)}, got {list(target.images.shape)}")
    if kind == "published":
        fidelity = (pictures - target.images).abs().mean()
    else:
        residual = (denoiser.encode_images(pictures) - target.latents).square().mean(dim=(1, 2, 3))
        fidelity = 0.5 * (target.weights * residual).mean()
    total, terms = fidelity_weight * fidelity, {"fidelity": float(fidelity.detach()), "perceptual": 0.0}
    if perceptual_weight > 0:
        distance = perceptual(pictures, target.images)
        terms["perceptual"] = float(distance.detach())
        total = total + perceptual_weight * distance
    return total, terms
