"""The daemon: builds the rooms, joins them, and leads them from start to a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

import uvloop

from webhookd import __version__, config, logs, systemd
from webhookd.api import Api, open_listeners
from webhookd.clock import SystemClock
from webhookd.core.ids import IdGenerator
from webhookd.core.settings import NetworkRules, Settings
from webhookd.engine import reconcile
from webhookd.engine.announcer import Announcer
from webhookd.engine.desk import DeliveryDesk
from webhookd.engine.directory import EndpointDirectory
from webhookd.engine.dispatcher import Dispatcher
from webhookd.engine.endpoints import LiveEndpoints
from webhookd.engine.feed import AttemptHub
from webhookd.engine.intake import Intake
from webhookd.engine.monitor import EngineMonitor
from webhookd.engine.recorder import Recorder
from webhookd.engine.upkeep import Heartbeat, Upkeep
from webhookd.errors import ConfigErrors, StoreCorruptError, StoreIOError, StoreUnavailableError, WebhookdError
from webhookd.metrics import Metrics
from webhookd.net.descriptors import clamp_to_descriptors
from webhookd.net.sender import HttpSender
from webhookd.store.sqlite import SqliteStore, open_store

log = logging.getLogger(__name__)

_SWITCH_INTERVAL_SECONDS = 0.0002
_LOG_FLUSH_SECONDS = 2.0
_RECORD_SECONDS = 5.0
_LAST_WORDS_SECONDS = 1.0
_SAFE_SQLITE = (3, 51, 3)


def run(config_path: Path | None) -> int:
    """Serve until told to stop, and return the exit code.

    What is wrong with the configuration is raised as ConfigErrors before anything is touched. Any other failure is
    logged and ends the process here and now: the database's thread would otherwise keep it alive.
    """
    settings = config.load_settings(config_path, environ=os.environ)
    logs.configure()
    # The database thread must get hold of the interpreter between two callbacks of a busy loop.
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config_path, settings))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # It has been obeyed, and the loop that heard of it is closed.
    logs.flush(_LOG_FLUSH_SECONDS)
    return 0


async def _serve(config_path: Path | None, settings: Settings) -> None:
    """Serve, and end the process where that fails while the loop still runs.

    Were it closed first, the database's thread would have nobody to answer to, and leave a traceback saying so.
    """
    # What is built at the start lives as long as the process: it is neither collected nor looked at again. Later next
    # to nothing makes a cycle; looking for some as often as usual would take a twentieth of all processor time.
    gc.disable()
    daemon = Daemon(config_path, settings)
    try:
        await daemon.start()
        gc.freeze()
        gc.set_threshold(20_000)
        gc.enable()
        await daemon.serve()
        await daemon.stop()
    except WebhookdError as error:
        reason = str(error)
        if isinstance(error, StoreUnavailableError | StoreCorruptError) and str(settings.storage.path) not in reason:
            reason = f"{settings.storage.path}: {reason}"
        log.critical("daemon.failed", extra={"fields": {"reason": reason, "exit_code": error.exit_code}})
        if error.exit_code != WebhookdError.exit_code:
            daemon.end_life()
        _exit_now(error.exit_code)
    except MemoryError:
        with contextlib.suppress(MemoryError):
            log.critical("daemon.failed", extra={"fields": {"reason": "out of memory"}})
        _exit_now(WebhookdError.exit_code)
    except Exception:
        log.critical("daemon.crashed", exc_info=True, extra={"fields": {"exit_code": WebhookdError.exit_code}})
        _exit_now(WebhookdError.exit_code)


class Daemon:
    """One life of the daemon: `start`, `serve` until told to stop, `stop`."""

    def __init__(self, config_path: Path | None, settings: Settings) -> None:
        self._config_path = config_path
        self._settings = settings
        self._clock = SystemClock()
        self._metrics = Metrics(version=__version__, dropped_log_lines=logs.dropped)
        self._stop = asyncio.Event()
        self._supervised: set[asyncio.Future[Any]] = set()
        self._wants_reload = asyncio.Event()
        self._reload_failure: str | None = None
        self.end_life: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Bring everything up, in the order in which it depends on each other; READY comes last."""
        settings, clock, loop = self._settings, self._clock, asyncio.get_running_loop()
        self._supervised.add(logs.install_loop_handler(loop))
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._wants_reload.set)
        network = clamp_to_descriptors(settings.network)
        self._say_what_is_in_force(network)

        self.store = await self._open_store()
        self.end_life = self.store.end_life
        self._ids = IdGenerator(highest=await self.store.highest_id())
        self.endpoints = LiveEndpoints()
        schema = config.Schema(settings)
        announcer = Announcer(endpoints=self.endpoints, ids=self._ids)
        await reconcile.load(
            self.endpoints,
            clock=clock,
            store=self.store,
            announcer=announcer,
            declared=settings.endpoints,
            schema=schema,
        )
        self.sender = HttpSender(network, clock)
        self.recorder = Recorder(store=self.store, endpoints=self.endpoints, announcer=announcer, clock=clock)
        self.dispatcher = Dispatcher(
            clock=clock,
            store=self.store,
            sender=self.sender,
            endpoints=self.endpoints,
            recorder=self.recorder,
            metrics=self._metrics,
            draw=random.random,
            max_in_flight=network.max_in_flight,
            gently=self.store.crashed_lately,
        )
        self.intake = Intake(
            clock=clock,
            store=self.store,
            endpoints=self.endpoints,
            dispatcher=self.dispatcher,
            ids=self._ids,
            settings=settings.ingest,
        )
        self.directory = EndpointDirectory(
            clock=clock,
            store=self.store,
            sender=self.sender,
            endpoints=self.endpoints,
            dispatcher=self.dispatcher,
            announcer=announcer,
            ids=self._ids,
            schema=schema,
        )
        self.upkeep = Upkeep(clock=clock, store=self.store, storage=settings.storage)
        heartbeat = Heartbeat(
            clock=clock, store=self.store, dispatcher=self.dispatcher, metrics=self._metrics, alive=self._feed_watchdog
        )
        self.monitor = EngineMonitor(
            clock=clock,
            store=self.store,
            endpoints=self.endpoints,
            dispatcher=self.dispatcher,
            recorder=self.recorder,
            intake=self.intake,
            heartbeat=heartbeat,
        )
        hub = AttemptHub()
        self.recorder.call_when_committed(hub.publish)
        self.api = Api(
            acceptor=self.intake,
            directory=self.directory,
            desk=DeliveryDesk(clock=clock, store=self.store, endpoints=self.endpoints, dispatcher=self.dispatcher),
            feed=hub,
            keeper=self.store,
            monitor=self.monitor,
            history=self.store,
            settings=settings,
            version=__version__,
            metrics_text=self._metrics_text,
            observer=self._metrics,
        )
        self._supervise(self.store.failure(), "the writer")
        self._supervise(self.recorder.run(), "the recorder")
        self._supervise(self.upkeep.run(), "retention")
        self._supervise(heartbeat.run(), "the heartbeat")
        self._supervise(self._reload_when_asked(), "reloading")
        self._supervised |= {self.dispatcher.failed, self.api.failed}
        passed = systemd.listen_sockets()
        for listen, listening in open_listeners(
            settings.listen, lambda name, key: systemd.claim_sockets(passed, name, key=key)
        ):
            await self.api.serve(listening, listen)
        await self.dispatcher.start()
        systemd.notify("READY=1", "STATUS=accepting and delivering")
        log.info("daemon.started", extra={"fields": {"version": __version__, "pid": os.getpid()}})

    async def serve(self) -> None:
        """Return when told to stop; raise what ended a task that must not end."""
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({stopping, *self._supervised}, return_when=asyncio.FIRST_COMPLETED)
        try:
            self._raise_failure()
        except (StoreIOError, StoreCorruptError):
            await self._answer_those_who_wait()
            raise

    async def stop(self) -> None:
        """Take nothing more, let attempts in flight end within the drain timeout, record them, and close."""
        systemd.notify("STOPPING=1")
        grace = self._settings.network.drain_timeout_seconds
        log.info("daemon.stopping", extra={"fields": {"in_flight": self.dispatcher.lanes.in_flight, "grace": grace}})
        self.intake.refusal = "webhookd is shutting down"
        self.api.drain()
        self._stop.clear()
        draining = asyncio.ensure_future(self.dispatcher.drain(grace))
        hurried = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            self.dispatcher.abort()
        interrupted = await draining
        hurried.cancel()
        flushed = asyncio.ensure_future(self.recorder.flushed())
        # A disk that takes no more writes must not keep the process: what is not recorded is sent again.
        await asyncio.wait({flushed, *self._supervised}, timeout=_RECORD_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        self._raise_failure()
        if not flushed.done():
            log.error("outcomes.lost", extra={"fields": {"reason": self.recorder.trouble or "no time is left"}})
        await self.api.close()
        for future in self._supervised:
            future.cancel()
        await self.sender.close()
        await self.store.close()
        log.info("daemon.stopped", extra={"fields": {"interrupted": interrupted}})

    async def _answer_those_who_wait(self) -> None:
        """Start nothing more, and be there for a moment yet until what the dying writer answered has gone out."""
        self.intake.refusal = "the disk has failed"
        draining = asyncio.ensure_future(self.dispatcher.drain(_LAST_WORDS_SECONDS))
        # Requests on their way get an answer too: a connection that is closed under one would not say why.
        await asyncio.sleep(_LAST_WORDS_SECONDS / 4)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.api.close(_LAST_WORDS_SECONDS / 4), _LAST_WORDS_SECONDS / 2)
        draining.cancel()

    def _raise_failure(self) -> None:
        for future in self._supervised:
            if future.done() and (error := future.exception()) is not None:
                raise error

    def _supervise(self, work: Coroutine[Any, Any, Any], what: str) -> None:
        """Run `work` for as long as the daemon lives; whatever way it ends otherwise, the process ends with it."""

        async def watched() -> NoReturn:
            result = await work
            if isinstance(result, BaseException):
                raise result
            raise RuntimeError(f"{what} ended without being told to")

        self._supervised.add(asyncio.ensure_future(watched()))

    async def _open_store(self) -> SqliteStore:
        store = await open_store(
            self._settings.storage,
            idempotency_window_seconds=self._settings.ingest.idempotency_window_seconds,
            clock=self._clock,
            mint=lambda: self._ids.mint(self._clock.now_ms()),
            on_commit=self._metrics.commit,
        )
        for warning in store.warnings:
            log.warning("store.warned", extra={"fields": {"reason": warning}})
        if tuple(map(int, store.sqlite_version.split("."))) < _SAFE_SQLITE:
            advice = "no other program may checkpoint this database (Litestream needs 3.51.3 or newer)"
            log.info("sqlite.noted", extra={"fields": {"version": store.sqlite_version, "advice": advice}})
        return store

    async def _reload_when_asked(self) -> NoReturn:
        while True:
            await self._wants_reload.wait()
            self._wants_reload.clear()
            systemd.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                await self._reload()
            except (ConfigErrors, StoreUnavailableError) as error:
                self._reload_failure = str(error)
                log.error("reload.refused", extra={"fields": {"reason": str(error)}})  # noqa: TRY400 - no traceback
            else:
                self._reload_failure = None
                log.info("reload.applied")
            self._metrics.reload(ok=self._reload_failure is None)
            systemd.notify("READY=1")

    async def _reload(self) -> None:
        """Swap in the file as it is now, or raise ConfigErrors and leave everything as it was."""
        settings = config.load_settings(self._config_path, environ=os.environ)
        if conflicts := config.reload_conflicts(self._settings, settings):
            raise ConfigErrors(conflicts)
        schema = config.Schema(settings)
        await self.directory.reload(settings.endpoints, schema)
        network = clamp_to_descriptors(settings.network)
        self._settings = settings
        self.intake.settings = settings.ingest
        self.sender.replace_network(network)
        self.dispatcher.resize(network.max_in_flight)
        self.api.apply(settings)
        self.upkeep.storage = settings.storage
        self.store.apply(settings.storage, idempotency_window_seconds=settings.ingest.idempotency_window_seconds)
        self._say_what_is_in_force(network)

    def _say_what_is_in_force(self, network: NetworkRules) -> None:
        source = str(self._settings.source) if self._settings.source else "built-in defaults"
        fields: dict[str, object] = {"source": source, "database": str(self._settings.storage.path)}
        if network.allow:
            fields["private_ranges_allowed"] = ", ".join(str(block) for block in network.allow)
        if network.proxy is not None:
            fields["proxy"] = network.proxy
        log.info("config.loaded", extra={"fields": fields})
        for warning in self._settings.warnings:
            log.warning("config.warned", extra={"fields": {"reason": warning}})

    async def _metrics_text(self) -> bytes:
        return self._metrics.render(await self.monitor.readings())

    def _feed_watchdog(self) -> None:
        if (stuck := self.monitor.stuck()) is not None:
            log.error("daemon.stuck", extra={"fields": {"reason": stuck}})
            return
        network = "the network is down" if self.dispatcher.network.down_since_ms is not None else None
        degraded = self.monitor.refusing() or network or self._reload_failure or "no"
        systemd.notify("WATCHDOG=1", f"STATUS=inflight={self.dispatcher.lanes.in_flight} degraded={degraded}")


def _exit_now(code: int) -> NoReturn:
    logs.flush(_LOG_FLUSH_SECONDS)
    os._exit(code)
