"""Tests of massmap_jax/prior."""
