"""Naming: slots and patch embeddings plus a vocabulary become named, localized segments."""
