"""The command lines: each a thin layer over the Python API."""
