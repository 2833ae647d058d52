"""What astronomers know of halos, without inference: cosmology, mass functions, profiles, concentrations."""
