"""How networks learn: recipe, optimizer, schedule, averaging, loop, checkpoint, run folder."""
