"""Reaches out: one signed HTTP request at a time to addresses that may be dialled, within its deadlines."""
