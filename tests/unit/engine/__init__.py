"""The engine's decisions, piece by piece and without a clock that runs."""
