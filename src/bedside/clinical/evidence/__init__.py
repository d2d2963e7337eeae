"""Does each statement rest on its source? Pure functions of two texts."""
