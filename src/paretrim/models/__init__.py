"""Networks by name or from the user's own factory, and their weights."""
