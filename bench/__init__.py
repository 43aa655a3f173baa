"""Measurements of webhookd, each against a yardstick that runs in the same invocation: `python -m bench`."""
