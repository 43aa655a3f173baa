"""webhookd: accepts events on a local socket and delivers them as webhooks, whatever happens."""

__version__ = "0.1.0"
