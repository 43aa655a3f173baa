"""The way in over real sockets, with fakes behind it."""
