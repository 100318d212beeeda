"""Full training of what a search promoted, recipes, and the published architectures."""
