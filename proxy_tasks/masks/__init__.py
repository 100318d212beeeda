"""Instance segmentation: networks around mask heads, and what they are trained on."""
