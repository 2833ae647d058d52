"""Halo physics without inference: cosmology, mass functions, density profiles, concentrations."""
