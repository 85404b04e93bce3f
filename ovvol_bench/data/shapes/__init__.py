"""The built-in dataset: a small world of textured, moving objects that the harness renders itself."""
