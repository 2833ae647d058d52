"""Tests of massmap_jax/maps."""
