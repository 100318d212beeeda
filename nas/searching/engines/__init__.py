"""What runs the trials: this process, or workers on Ray Tune."""
