"""Files on disk, to examples, to episodes.

The only room that may import TensorFlow or librosa, and only when used.
"""
