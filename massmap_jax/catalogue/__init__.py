"""From a file to a checked catalogue: columns, units, errors, redshifts, positions and flags."""
