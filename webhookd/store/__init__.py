"""Remembers: what was accepted, what is still owed, and what came of every attempt."""
