"""Listens: accepts connections, checks who is there, takes events in and answers operators."""

from webhookd.api.listener import bind
from webhookd.api.lobby import Observer, Patience
from webhookd.api.opening import open_listeners
from webhookd.api.server import Api

__all__ = ["Api", "Observer", "Patience", "bind", "open_listeners"]
