"""The signed distance of a mesh: the class on Warp's kernels (`signed_distance`), its signs, and its plain twin."""
