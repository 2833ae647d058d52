"""Tests of massmap_jax/catalogue."""
