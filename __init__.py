"""HumanNorm as a ComfyUI node pack. The nodes are in `nodes/`, the library that they call in `humannorm/`."""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
