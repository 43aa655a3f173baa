"""The daemon under faults: killed, stopped, starved of disk, descriptors or network."""
