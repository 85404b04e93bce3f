"""Dataset ``imagenet-vid``: its folders and lists, truth, preparation for training, and checks.

``data/vid_annotations`` parses its XML files.
"""
