"""Configuration: TOML and environment become the frozen settings of core, and every complaint names its key."""

from __future__ import annotations

from webhookd.config.endpoints import Schema
from webhookd.config.load import load_settings, reload_conflicts

__all__ = ["Schema", "load_settings", "reload_conflicts"]
