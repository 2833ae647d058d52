"""Slow, independent answers. Nothing here imports the package under test: it starts from the raw table or the paper."""
