from hypothesis import settings

# No deadline for an example: how fast the machine is must not decide a test.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
