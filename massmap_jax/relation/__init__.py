"""The mass-luminosity relation P(L | M, z), and what a catalogue says about it."""
