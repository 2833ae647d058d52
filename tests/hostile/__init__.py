"""Hostile catalogues: one good field of 20 objects, and ways in which real pipelines spoil it."""
