"""The mass-luminosity relation P(L | M, z): given, or fitted to a catalogue."""
