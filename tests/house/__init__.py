"""Rules that the repository keeps about itself."""
