"""Segmentation of video: the spaces of dynamic cells, the static network arch2, and their modules."""
