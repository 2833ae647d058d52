"""Benchmarks in the form of asv, which keeps their history over commits: see benchmarks/README.md."""
