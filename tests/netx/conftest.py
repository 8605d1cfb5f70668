"""The first example of a property test imports Lava, which takes seconds: no deadline."""

from hypothesis import settings

settings.register_profile("netx", deadline=None)
settings.load_profile("netx")
