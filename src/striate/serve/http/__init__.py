"""The HTTP service: a trained network behind ``POST /predict``."""
