"""Statistical tests of the package: calibration over many objects, each with a twin that must fail."""
