"""Tests of massmap_jax/relation."""
