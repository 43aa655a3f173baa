"""A served API and ways to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from tests.kit.described import Judge
from tests.kit.fakes_api import House, Wire


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories():
    """Run on the loop of the daemon and on the standard one: they differ in what they do at the end of a connection."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.api.close(0.2)


class Client:
    """Opens connections to a house and hangs up at the end."""

    def __init__(self, house: House, path: Path) -> None:
        self.house = house
        self._path = path
        self._wires: list[Wire] = []
        self._connect: Callable | None = None

    @property
    def is_served(self) -> bool:
        return self._connect is not None

    async def wire(self) -> Wire:
        """Connect; without another say, over a unix socket to an API with default settings."""
        if self._connect is None:
            await self.serve()
        wire = await Wire.to(self._connect)
        self._wires.append(wire)
        return wire

    async def serve(self, *, tcp: bool = False, how: dict | None = None, **settings) -> None:
        """Serve with these settings."""
        self.house.open(**settings)
        self._connect = await (self.house.on_tcp(**how or {}) if tcp else self.house.on_unix(self._path, **how or {}))

    async def ask(self, data: bytes):
        """Ask on a connection of its own; the answer must be one that the API's description promises."""
        answer = await (await self.wire()).ask(data)
        method, target = data.split(b" ", 2)[:2]
        wrong = Judge().judge(
            method.decode("latin-1"),
            target.decode("latin-1"),
            answer.status,
            answer.headers.get("content-type", ""),
            answer.body,
        )
        assert wrong == []
        return answer

    def hang_up(self) -> None:
        for wire in self._wires:
            wire.close()


@pytest.fixture
async def client(house, tmp_path) -> AsyncIterator[Client]:
    client = Client(house, tmp_path / "api.sock")
    yield client
    client.hang_up()
    if not client.is_served:
        house.open()
