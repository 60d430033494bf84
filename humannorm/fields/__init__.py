"""What both optimisers learn in: the multi-resolution hash grid, and the small networks on it."""
