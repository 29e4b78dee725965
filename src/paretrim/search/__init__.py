"""Compression without a recipe: a ladder of candidates, and climbing it towards targets."""
