"""How hypothesis searches here: as long as it takes, and saying how to repeat what it found."""

from hypothesis import settings

settings.register_profile("marketfeed", deadline=None, print_blob=True)
settings.load_profile("marketfeed")
