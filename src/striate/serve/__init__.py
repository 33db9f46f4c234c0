"""Trained networks at work: prediction for files, folders and archives."""
