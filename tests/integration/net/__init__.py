"""The way out against real servers, friendly and hostile, on loopback."""
