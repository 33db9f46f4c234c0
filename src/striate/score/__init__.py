"""How well a network does: metrics with their intervals, evaluation, the report."""
