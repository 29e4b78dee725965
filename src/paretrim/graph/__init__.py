"""The neutral form between training and deployment, and its exact meaning; NumPy only."""
