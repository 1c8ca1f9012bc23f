"""The generated movie world: stories from a seed, their frames, and annotations in the real formats."""
