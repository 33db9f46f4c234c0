"""Many networks into one: ensembles, averages of weights, soups, and why some can't be mixed."""
