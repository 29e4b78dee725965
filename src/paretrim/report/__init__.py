"""Outcomes for people: the frontier, differences with intervals, a table for the terminal and one HTML page."""
