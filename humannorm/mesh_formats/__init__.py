"""Readers of mesh files, one module for each format; `humannorm.mesh_io.load_mesh` is the way in.

Each gives the file's surfaces as `parts.Part`s. Own code where a library loses what the file says: normalised integers,
texture transforms and wrapping, colours beside textures, skeletons, relative indices.
"""
