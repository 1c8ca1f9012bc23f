"""Kuleshov: hierarchical self-supervised learning for movie understanding."""

__version__ = "0.1.0"
