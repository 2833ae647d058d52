"""Tests of massmap_jax/halo."""
