"""Every store against the promises of `core.ports`, and the SQLite one against the faults of its file."""
