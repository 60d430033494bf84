"""Colour on a frozen surface: colour fields, coarse and fine optimisation, what no camera sees, saturation."""
