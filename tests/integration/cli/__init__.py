"""The commands against a daemon that answers what a test wants, over real sockets."""
