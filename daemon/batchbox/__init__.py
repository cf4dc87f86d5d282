"""batchbox: drop a file into a folder, find Claude's answer in another, at half price."""

__version__ = "0.1.0"
