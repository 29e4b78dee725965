"""The neutral form between training and deployed files, and its exact meaning; NumPy only."""
