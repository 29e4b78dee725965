"""Pruning: pure functions of weights, and the stage that applies them."""
