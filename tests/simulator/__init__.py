"""The simulator, seen through the unmodified SDK."""
