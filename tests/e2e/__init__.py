"""The installed program as its users run it: a process, its sockets, its exit codes."""
