"""Images: [H,W,C] or [B,H,W,C], float 0..1, row 0 at the top. The one module that converts them to anything else."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError, check_choice, check_tensor, reading
from humannorm.files import write_files

__all__ = [
    "contact_sheet",
    "encode_image",
    "from_network",
    "lab_from_linear",
    "lab_from_srgb",
    "linear_from_srgb",
    "load_png",
    "luminance",
    "save_png",
    "srgb_from_linear",
    "to_network",
    "to_pil",
]

MOST_PIXELS = 2**27  # of a picture that is read

# IEC 61966-2-1 primaries to CIE XYZ, and the white D65 that they add up to.
_XYZ_FROM_RGB = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)


LUMINANCE = (0.2126, 0.7152, 0.0722)  # of linear sRGB (ITU-R BT.709)


def to_network(images: Float[Tensor, "B H W C"]) -> Float[Tensor, "B C H W"]:
    """[B,H,W,C] in 0..1 to a network's [B,C,H,W] in -1..1."""
    check_tensor("images", images, "B H W C")
    return images.permute(0, 3, 1, 2) * 2.0 - 1.0


def from_network(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B H W C"]:
    """A network's [B,C,H,W] in -1..1 to [B,H,W,C] in 0..1, clamped to the range."""
    check_tensor("images", images, "B C H W")
    return (images.permute(0, 2, 3, 1) / 2.0 + 0.5).clamp(0.0, 1.0)


def linear_from_srgb(colors: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """IEC 61966-2-1 decoding; values below 0 count as 0."""
    colors = colors.clamp_min(0)
    return torch.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(light: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """IEC 61966-2-1 encoding; values below 0 count as 0."""
    light = light.clamp_min(0)
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(1e-9) ** (1 / 2.4) - 0.055)


def luminance(light: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N 1"]:
    """Y of linear sRGB."""
    return (light * light.new_tensor(LUMINANCE)).sum(-1, keepdim=True)


def lab_from_srgb(colors: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N 3"]:
    """CIELAB (L* in 0..100, a*, b*) of sRGB colours in 0..1, white point D65."""
    check_tensor("colors", colors, "* 3")
    return lab_from_linear(linear_from_srgb(colors))


def lab_from_linear(light: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N 3"]:
    """CIELAB of linear sRGB, as `lab_from_srgb`."""
    matrix = light.new_tensor(_XYZ_FROM_RGB)
    relative = light @ matrix.T / matrix.sum(1)
    root, line = relative.clamp_min(1e-12) ** (1 / 3), relative * (29 / 6) ** 2 / 3 + 4 / 29
    f = torch.where(relative > (6 / 29) ** 3, root, line)
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def to_pil(image: Float[Tensor, "H W *C"]) -> Any:
    """A `PIL.Image` of [H,W], [H,W,1] (grey), [H,W,3] or [H,W,4], rounded to 8 bits."""
    from PIL import Image

    check_tensor("image", image, "H W *")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim > 3 or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise InputError(f"image: expected [H, W] or [H, W, 1 or 3 or 4], got {list(image.shape)}")
    return Image.fromarray((image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def encode_image(image: Float[Tensor, "H W C"], kind: str = "png") -> bytes:
    """PNG, or JPEG of quality 95 without chroma subsampling."""
    check_choice("image format", kind, ("png", "jpeg"))
    stream = io.BytesIO()
    if kind == "png":
        to_pil(image).save(stream, format="PNG", compress_level=4)
    else:
        to_pil(image).save(stream, format="JPEG", quality=95, subsampling=0)
    return stream.getvalue()


def save_png(path: str | os.PathLike[str], image: Float[Tensor, "H W *C"]) -> None:
    """Write an 8-bit PNG; the file appears whole or not at all. Folders on the way are made."""
    stream = io.BytesIO()
    to_pil(image).save(stream, format="PNG")
    write_files({Path(path): stream.getvalue()})


def load_png(path: str | os.PathLike[str]) -> Float[Tensor, "H W C"]:
    """Read a picture file as float 0..1: [H,W,3], or [H,W,4] if it has an alpha channel."""
    import warnings

    import numpy as np
    from PIL import Image

    with reading(path, "a whole picture file"), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise InputError(f"expected at most {MOST_PIXELS} pixels, got {picture.width} x {picture.height}")
            if picture.mode.startswith("I"):  # 16 bits of grey, which PIL would clip
                grey = torch.from_numpy(np.array(picture, dtype=np.float32)) / 65535.0
                return grey.clamp(0, 1)[..., None].repeat(1, 1, 3)
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
            return torch.from_numpy(np.array(picture)).float() / 255.0


def contact_sheet(
    images: Sequence[Float[Tensor, "H W 3"]] | Float[Tensor, "B H W 3"], labels: Sequence[str], columns: int
) -> Float[Tensor, "SH SW 3"]:
    """Pictures of one size in rows of `columns`, each over its label, on a light ground."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    if len(images) == 0 or len(images) != len(labels):
        raise InputError(
            f"labels: expected one per picture and at least one picture, got {len(labels)} for {len(images)}"
        )
    if columns < 1:
        raise InputError(f"columns: expected at least 1, got {columns}")
    height, width = images[0].shape[:2]
    for image in images:
        check_tensor("images", image, f"{height} {width} 3")
    gap = max(4, width // 64)
    size = max(11, width // 20)
    font = ImageFont.load_default(size=size)
    band = size + 2 * gap
    rows = -(-len(images) // columns)
    columns = min(columns, len(images))
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + band) + gap), (244, 244, 244))
    draw = ImageDraw.Draw(sheet)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = gap + index % columns * (width + gap)
        top = gap + index // columns * (height + band)
        sheet.paste(to_pil(image), (left, top))
        text = label
        while text and draw.textlength(text, font=font) > width:
            text = text[:-1]
        draw.text((left + width / 2, top + height + gap // 2), text, fill=(32, 32, 32), font=font, anchor="ma")
    return torch.from_numpy(np.array(sheet)).float() / 255.0
