"""Tests of massmap_jax/models."""
