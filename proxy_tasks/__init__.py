"""How a candidate is scored: data, backbones, feature cache, losses, metrics."""
