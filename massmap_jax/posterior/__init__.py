"""The posterior of each halo mass: exact integrals, or a table of them that is interpolated."""
