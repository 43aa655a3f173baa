"""The command line without a daemon: words, numbers, decisions."""
