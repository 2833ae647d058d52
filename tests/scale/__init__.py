"""Tests of massmap_jax/scale."""
