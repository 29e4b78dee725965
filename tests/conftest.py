"""Settings of all tests."""

from hypothesis import settings

# The same examples in every run, and no deadline: a change is judged by what it does, not by chance or by how busy the
# machine is. To look for new examples: pytest --hypothesis-profile=default
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")
