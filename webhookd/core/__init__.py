"""Decides: the pure rules and data of webhookd, without I/O, asyncio, clocks or randomness."""
