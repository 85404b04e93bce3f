"""Baselines for every part of the pipeline, registered through the public entry points."""
