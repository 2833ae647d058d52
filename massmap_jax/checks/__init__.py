"""Does the model fit? Posteriors against true masses, and predicted against observed luminosities."""
