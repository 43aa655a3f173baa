"""Configuration: TOML and environment become the frozen settings of core, and every complaint names its key."""

from __future__ import annotations

from webhookd.config.endpoints import Schema
from webhookd.config.load import load_settings, reload_conflicts
from webhookd.config.rendering import Description, describe

__all__ = ["Description", "Schema", "describe", "load_settings", "reload_conflicts"]
