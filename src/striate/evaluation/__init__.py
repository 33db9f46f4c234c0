"""Networks on labelled images."""
