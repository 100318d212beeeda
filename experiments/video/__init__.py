"""Full training of segmentation networks, for single frames and for video, and what is measured on them."""
