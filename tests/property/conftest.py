"""The same examples in every run: what passed once passes again."""

from hypothesis import settings

settings.register_profile(
    "same-every-time", derandomize=True, database=None, deadline=None, max_examples=100
)
settings.load_profile("same-every-time")
