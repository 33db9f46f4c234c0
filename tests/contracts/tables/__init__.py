"""The published tables, one file per file of ``striate/nets``."""
