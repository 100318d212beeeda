"""How FCOS decoders are scored: crops, features and dense targets in caches, loss or average precision on meta-val."""
