"""How dynamic cells are scored: the static network's outputs in a cache, loss or IoU of short sequences on meta-val."""
