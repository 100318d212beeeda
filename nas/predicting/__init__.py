"""From trained weights to pictures: what was trained is found again, run on images or a video, and drawn."""
