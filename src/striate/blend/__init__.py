"""Many networks into one: ensembles of predictions, averages of weights, soups, and why some can't be mixed."""
