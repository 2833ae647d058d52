"""A file becomes a checked catalogue: columns, units, errors, redshifts, positions, flags."""
