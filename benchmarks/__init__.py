"""Reproducible measurements against peers: `python -m benchmarks rendering` and the like."""
