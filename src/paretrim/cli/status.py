"""Exit codes of every command."""

DONE = 0
FAILED = 1
USAGE = 2
"""Wrong arguments, or a recipe or study that breaks a rule."""
MISSED = 3
"""Everything worked and a target was not met."""
STOPPED = 130
"""Stopped by Ctrl-C, as shells number it."""
TERMINATED = 143
"""Stopped by SIGTERM."""
