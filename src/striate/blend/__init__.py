"""Many networks into one: ensembles of answers, averages of weights, soups, and why some can't be mixed."""
