"""Drives: takes what was accepted, decides what to send next, and records what became of it."""
