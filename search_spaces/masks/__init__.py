"""Mask heads: their choices, and the modules that they spell."""
