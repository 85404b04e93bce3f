"""Datasets, and how frames are read, cut into clips and resized. Nothing here imports torch."""
