"""Presets: YAML files that name the parts of a run and their settings."""
