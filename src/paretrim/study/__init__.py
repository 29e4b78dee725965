"""Grids of recipes and seeds, the store of their outcomes, and the runner that fills it."""
