"""The adapters for the shared root, on real folders."""
