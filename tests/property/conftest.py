"""How hypothesis searches here: an example may take its time on a busy machine, and a failure says how to repeat it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("webhookd", deadline=None, print_blob=True)
settings.load_profile("webhookd")
