"""Settings of the whole suite."""

from hypothesis import settings

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("duologue", deadline=None)
settings.load_profile("duologue")
