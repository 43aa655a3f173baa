"""The way out, piece by piece and without a network."""
