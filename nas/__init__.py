"""The front door: Python API, command lines, engines, run store."""
