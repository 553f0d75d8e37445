"""One peer: keys and lanes joined into a sans-I/O core, `Session`."""
