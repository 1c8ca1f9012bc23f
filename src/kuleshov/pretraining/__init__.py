"""Level 1: pretraining the video backbone."""
