"""The routes about the daemon itself, described."""

from __future__ import annotations

from webhookd.api.spec.shorthand import Operation, answer, body, keys, ref, text

DAEMON: dict[str, Operation] = {
    "GET /v1/status": Operation(
        name="status",
        tag="daemon",
        summary="Show counts, what is late, what needs attention and how much room there is",
        answers={200: answer("A reading of this moment.", ref("Status"))},
    ),
    "GET /healthz": Operation(
        name="healthz",
        tag="daemon",
        summary="Say that the process is up",
        answers={200: answer("It is.", ref("Well"))},
    ),
    "GET /readyz": Operation(
        name="readyz",
        tag="daemon",
        summary="Say whether events are accepted and delivered",
        answers={200: answer("They are.", ref("Well"))},
        problems={503: ("not_ready_draining", "not_ready_refusing", "not_ready_stuck")},
    ),
    "GET /metrics": Operation(
        name="metrics",
        tag="daemon",
        summary="Return the metrics in Prometheus' text format",
        answers={200: answer("The metrics.", text(), media="text/plain")},
    ),
    "GET /openapi.json": Operation(
        name="openapi",
        tag="daemon",
        summary="Return this description",
        answers={200: answer("An OpenAPI 3.1 document.", {"type": "object"})},
    ),
    "POST /v1/backup": Operation(
        name="backup",
        tag="daemon",
        summary="Copy the database to a file on the daemon's machine",
        description="A consistent copy, checked before it gets its name; deliveries go on meanwhile.",
        body=body(
            keys(
                {
                    "path": text("An absolute path the daemon may write to.", pattern="^/"),
                    "overwrite": {"type": "boolean", "default": False, "description": "Replace a file of this name."},
                },
                required=("path",),
            ),
            required=True,
            example={"path": "/var/backups/webhookd/webhookd.db"},
        ),
        answers={200: answer("What was copied.", ref("Backup"))},
        problems={409: ("backup_exists", "backup_running"), 422: ("backup_refused",), 500: ("backup_failed",)},
    ),
}
