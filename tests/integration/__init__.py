"""Several rooms together, over real sockets and a real database, inside the process of the test."""
