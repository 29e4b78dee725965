"""The stages: what one is, and those that recipes can name."""
