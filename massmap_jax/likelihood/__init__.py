"""What an object's data say about its mass: likelihood terms in ln M, the luminosity integral, the selection."""
