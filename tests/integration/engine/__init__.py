"""The engine on a real database file, in virtual time."""
