"""Datasets, and how frames are read, cut into clips and resized. Nothing here imports torch.

``decoders`` decodes video files, ``readers`` images; ``video`` opens either, with decoders kept in a
``helper_process``. ``truth_index`` holds truth in columns, and ``indexed`` makes datasets of them.
"""
