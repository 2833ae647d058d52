"""Does the model fit? Calibration against truth, and predicted against observed luminosities."""
