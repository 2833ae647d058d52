"""Tests of massmap_jax/checks."""
