"""Tests of massmap_jax/figures."""
