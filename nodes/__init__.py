"""ComfyUI nodes (V3 schema): thin translations between the host's sockets and the library. The only room that imports
the host.

`library` comes first: it makes the `humannorm` of this very folder importable, whatever the folder is called.
"""

from . import library  # noqa: F401
from .extension import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
