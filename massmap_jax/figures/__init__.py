"""Figures of posteriors, maps, relations and checks."""
