"""Rules of the way in that need no connection."""
