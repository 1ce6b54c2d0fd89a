"""Hypothesis draws the same examples on every run, and takes the time that a busy machine needs."""

from hypothesis import settings

settings.register_profile("offramp", derandomize=True, deadline=None)
settings.load_profile("offramp")
