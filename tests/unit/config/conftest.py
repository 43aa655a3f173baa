"""A configuration file of the test's own, away from the home and the environment of whoever runs the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from webhookd.config import load_settings
from webhookd.core.settings import EndpointDefinition, Settings
from webhookd.errors import ConfigErrors

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class ConfigFile:
    """Writes a configuration file and says what becomes of it; unless given, the environment has only a home."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "config.toml"
        self.environ = {"HOME": str(directory / "home")}

    def load(self, text: str | bytes, **environ: str) -> Settings:
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_settings(self.path, environ=self.environ | environ)

    def endpoint(self, keys: str, before: str = "") -> EndpointDefinition:
        url = "" if keys.startswith("url") else 'url = "https://example.com/hook"\n'
        settings = self.load(f'{before}\n[endpoints.orders]\nsecret = "{SECRET}"\n{url}{keys}\n')
        return next(iter(settings.endpoints.values()))

    def complaints(self, text: str | bytes, **environ: str) -> list[tuple[str, str]]:
        with pytest.raises(ConfigErrors) as caught:
            self.load(text, **environ)
        return [(complaint.key, complaint.text) for complaint in caught.value.complaints]

    def complaint(self, text: str | bytes, **environ: str) -> tuple[str, str]:
        complaints = self.complaints(text, **environ)
        assert len(complaints) == 1, complaints
        return complaints[0]


@pytest.fixture
def config(tmp_path) -> ConfigFile:
    return ConfigFile(tmp_path)
