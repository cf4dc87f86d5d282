"""The database, real and on disk."""
