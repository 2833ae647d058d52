"""Tests of massmap_jax/run."""
