"""Metrics have the names and labels operators were promised, and count what happened."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from tests.kit import builders
from tests.kit.clock import START_MS
from webhookd import __version__
from webhookd.core.attempt import ErrorClass
from webhookd.core.ids import EndpointId
from webhookd.metrics import MAX_ENDPOINT_LABELS, OUTCOMES, Metrics, Readings, failure_label

READINGS = Readings(
    pending=5,
    held=2,
    oldest_due_timestamp_seconds=START_MS / 1000 + 0.5,
    in_flight={"fast": 3, "slow": 1},
    endpoints={"enabled": 4, "disabled": 1},
    store_bytes=4096,
    wal_bytes=100,
)
PROMISED = {
    "webhookd_events_accepted_total": set(),
    "webhookd_events_rejected_total": {"reason"},
    "webhookd_ingest_duration_seconds": set(),
    "webhookd_attempts_total": {"endpoint", "outcome"},
    "webhookd_attempt_duration_seconds": set(),
    "webhookd_start_delay_seconds": {"lane"},
    "webhookd_delivery_latency_seconds": set(),
    "webhookd_deliveries_total": {"result"},
    "webhookd_pending_deliveries": set(),
    "webhookd_held_deliveries": set(),
    "webhookd_oldest_due_timestamp_seconds": set(),
    "webhookd_in_flight": {"lane"},
    "webhookd_endpoints": {"status"},
    "webhookd_endpoint_consecutive_failures": {"endpoint"},
    "webhookd_store_bytes": set(),
    "webhookd_wal_bytes": set(),
    "webhookd_log_lines_dropped_total": set(),
    "webhookd_network_down": set(),
    "webhookd_commit_duration_seconds": set(),
    "webhookd_commit_batch_size": set(),
    "webhookd_event_loop_lag_seconds": set(),
    "webhookd_config_last_reload_successful": set(),
    "webhookd_build_info": {"version"},
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(metrics: Metrics, readings: Readings = READINGS) -> Samples:
    text = metrics.render(readings).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"webhookd_{name}", frozenset(labels.items())]


def test_names_and_labels_are_the_promised_ones_and_no_others():
    metrics = Metrics()
    metrics.rejected("malformed")
    metrics.attempt(EndpointId("orders"), "ok", 0.1)
    samples = scrape(metrics, replace(READINGS, consecutive_failures={EndpointId("orders"): 3}))
    found: dict[str, set[str]] = {}
    histograms = {name for name in PROMISED if (f"{name}_count" in {sample for sample, _ in samples})}
    for name, labels in samples:
        family = next((known for known in histograms if name.startswith(known + "_")), name)
        found.setdefault(family, set()).update({label for label, _ in labels} - {"le"})
    assert found == PROMISED


def test_counters_count():
    metrics = Metrics()
    metrics.accepted(3, 0.1)
    metrics.accepted(4, 0.1)
    metrics.rejected("no_match")
    metrics.rejected("no_match")
    metrics.ended("cancelled", 7)
    metrics.delivered(EndpointId("orders"), 0.1, 0.2)
    metrics.attempt(EndpointId("orders"), "http_5xx", 0.1)
    metrics.attempt(EndpointId("orders"), "http_5xx", 0.1)
    samples = scrape(metrics)
    assert value(samples, "events_accepted_total") == 7
    assert value(samples, "events_rejected_total", reason="no_match") == 2
    assert value(samples, "deliveries_total", result="delivered") == 1
    assert value(samples, "deliveries_total", result="cancelled") == 7
    assert value(samples, "deliveries_total", result="dead") == 0
    assert value(samples, "attempts_total", endpoint="orders", outcome="ok") == 1
    assert value(samples, "attempts_total", endpoint="orders", outcome="http_5xx") == 2
    assert value(samples, "attempt_duration_seconds_count") == 3


def test_a_histogram_counts_each_value_up_to_and_including_its_bound():
    metrics = Metrics()
    for seconds in (0.0004, 0.0005, 0.3, 99.0):
        metrics.accepted(1, seconds)
    samples = scrape(metrics)
    assert value(samples, "ingest_duration_seconds_bucket", le="0.0005") == 2
    assert value(samples, "ingest_duration_seconds_bucket", le="0.25") == 2
    assert value(samples, "ingest_duration_seconds_bucket", le="0.5") == 3
    assert value(samples, "ingest_duration_seconds_bucket", le="+Inf") == 4
    assert value(samples, "ingest_duration_seconds_count") == 4
    assert value(samples, "ingest_duration_seconds_sum") == pytest.approx(99.3009)


def test_every_histogram_is_fed_by_its_method():
    metrics = Metrics()
    metrics.start_delay("slow", 2.0)
    metrics.delivered(EndpointId("orders"), 0.1, 3.0)
    metrics.commit(0.002, 64)
    metrics.loop_lag(0.004)
    samples = scrape(metrics)
    assert value(samples, "start_delay_seconds_sum", lane="slow") == 2
    assert value(samples, "start_delay_seconds_count", lane="fast") == 0
    assert value(samples, "delivery_latency_seconds_sum") == 3
    assert value(samples, "commit_duration_seconds_sum") == 0.002
    assert value(samples, "commit_batch_size_sum") == 64
    assert value(samples, "event_loop_lag_seconds_sum") == 0.004


@pytest.mark.parametrize("seconds", [-5.0, math.nan])
def test_a_duration_from_before_a_clock_step_counts_as_nought(seconds):
    metrics = Metrics()
    metrics.delivered(EndpointId("orders"), 0.1, seconds)
    samples = scrape(metrics)
    assert value(samples, "delivery_latency_seconds_sum") == 0
    assert value(samples, "delivery_latency_seconds_bucket", le="0.005") == 1


def test_readings_become_gauges():
    samples = scrape(Metrics())
    assert value(samples, "pending_deliveries") == 5
    assert value(samples, "held_deliveries") == 2
    assert value(samples, "oldest_due_timestamp_seconds") == START_MS / 1000 + 0.5
    assert value(samples, "in_flight", lane="fast") == 3
    assert value(samples, "in_flight", lane="slow") == 1
    assert value(samples, "endpoints", status="enabled") == 4
    assert value(samples, "endpoints", status="disabled") == 1
    assert value(samples, "store_bytes") == 4096
    assert value(samples, "wal_bytes") == 100
    assert value(samples, "build_info", version=__version__) == 1


def test_nothing_due_is_no_moment_at_all():
    samples = scrape(Metrics(), replace(READINGS, oldest_due_timestamp_seconds=None))
    assert math.isnan(value(samples, "oldest_due_timestamp_seconds"))


def test_a_failed_reload_shows_until_one_succeeds():
    metrics = Metrics()
    assert value(scrape(metrics), "config_last_reload_successful") == 1
    metrics.reload(ok=False)
    assert value(scrape(metrics), "config_last_reload_successful") == 0
    metrics.reload(ok=True)
    assert value(scrape(metrics), "config_last_reload_successful") == 1


def test_endpoints_after_the_hundredth_share_a_label():
    metrics = Metrics()
    for number in range(150):
        metrics.attempt(EndpointId(f"e{number}"), "ok", 0.1)
    failures = {EndpointId(f"e{number}"): number for number in range(90, 120)}
    samples = scrape(metrics, replace(READINGS, consecutive_failures=failures))
    labels = {dict(labels)["endpoint"] for name, labels in samples if "endpoint" in dict(labels)}
    assert len(labels - {"_other"}) == MAX_ENDPOINT_LABELS == 100
    assert value(samples, "attempts_total", endpoint="_other", outcome="ok") == 50
    assert value(samples, "endpoint_consecutive_failures", endpoint="e99") == 99
    assert value(samples, "endpoint_consecutive_failures", endpoint="_other") == 119


@pytest.mark.parametrize(
    ("outcome", "label"),
    [
        (builders.outcome(204), "http_2xx"),
        (builders.outcome(302), "http_3xx"),
        (builders.outcome(410), "http_4xx"),
        (builders.outcome(599), "http_5xx"),
        (builders.failure(ErrorClass.INTERNAL), "local"),
    ],
)
def test_failures_have_a_label(outcome, label):
    assert failure_label(outcome) == label


@pytest.mark.parametrize("kind", list(ErrorClass))
def test_every_error_class_is_among_the_promised_outcomes(kind):
    label = failure_label(builders.failure(kind))
    assert label in OUTCOMES
    Metrics().attempt(EndpointId("orders"), label, 0.1)


def test_nothing_is_registered_for_the_whole_process():
    before = set(REGISTRY._names_to_collectors)  # noqa: SLF001
    scrape(Metrics())
    assert set(REGISTRY._names_to_collectors) == before  # noqa: SLF001


def test_two_scrapes_of_an_idle_daemon_are_equal():
    metrics = Metrics()
    metrics.attempt(EndpointId("orders"), "ok", 0.1)
    assert metrics.render(READINGS) == metrics.render(READINGS)


def test_an_observation_costs_next_to_nothing():
    metrics = Metrics()
    orders, times = EndpointId("orders"), 20_000
    best = math.inf
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(times):
            metrics.attempt(orders, "ok", 0.1)
        best = min(best, time.perf_counter() - started)
    # Counter and histogram together; measured at 0.35 µs where the client library takes 1.4 µs.
    assert best / times < 2e-6
