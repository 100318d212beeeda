"""A run: its directory, its store, and how it is read."""
