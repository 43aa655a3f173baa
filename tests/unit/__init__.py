"""One module of webhookd at a time: no disk beyond a temporary directory, no network, no waiting."""
