"""Tests of massmap_jax/likelihood."""
