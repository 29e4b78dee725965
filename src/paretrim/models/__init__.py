"""Networks by name or from the user's factory, and their weights."""
