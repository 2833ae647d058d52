"""What an object's data say about its mass: terms in ln M, the luminosity integral, the selection."""
