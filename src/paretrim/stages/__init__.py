"""The stages: their protocol, and those that recipes can name."""
