"""Settings of all tests: no test looks at the wall clock, and a busy machine fails none."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("hansa", deadline=None)
settings.load_profile("hansa")
