"""The sculpted surface: lattice and marching tetrahedra, the signed distance field, and distances to a given mesh."""
