"""Tests of massmap_jax/posterior."""
