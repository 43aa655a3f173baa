"""The keys of an endpoint as the API takes them; the names are held to those of the configuration by a test."""

from __future__ import annotations

from webhookd.api.spec.shorthand import GLOB_PATTERN, Json, keys, nullable, text
from webhookd.core.settings import Algorithm, Body, Encoding, Gone, KeyEncoding, Scheme

DURATION_PATTERN = r"^[0-9]{1,16}(\.[0-9]{1,9})?(ms|s|m|h|d)$"

_SCALAR: Json = {"type": ["string", "number", "boolean", "null"]}
_SCALARS: Json = {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR, "minItems": 1, "maxItems": 1000}]}
_NUMBER: Json = {"type": "number"}


def _duration(description: str, *examples: str) -> Json:
    return text(description, pattern=DURATION_PATTERN, examples=list(examples))


def _words(words: type[Scheme | Body | Gone | Algorithm | Encoding | KeyEncoding], description: str) -> Json:
    return {"type": "string", "enum": [str(word) for word in words], "description": description}


WHERE: Json = {
    "type": "object",
    "maxProperties": 32,
    "description": "JSON pointers (RFC 6901) into the payload, and what has to be true there: values any of which it "
    "is, or tests all of which it passes. An event is only owed to the endpoint if all of it is true.",
    "additionalProperties": {
        "anyOf": [
            {"type": ["string", "number", "boolean"]},
            {"type": "array", "items": _SCALAR, "minItems": 1, "maxItems": 1000},
            keys(
                {
                    "exists": {"type": "boolean", "description": "Whether there is anything, be it null."},
                    "not": _SCALARS | {"description": "None of these."},
                    "gt": _NUMBER,
                    "gte": _NUMBER,
                    "lt": _NUMBER,
                    "lte": _NUMBER,
                }
            )
            | {"minProperties": 1},
        ]
    },
    "examples": [{"/data/status": ["succeeded", "canceled"]}],
}

SIGNATURE: Json = keys(
    {
        "scheme": _words(Scheme, "The format."),
        "secret": text("A secret of its own, in place of the endpoint's; shown masked."),
        "header": text("Scheme `template`: the header it stands in."),
        "value": text("Scheme `template`: what stands there."),
        "content": text("Scheme `template`: what is signed."),
        "algorithm": _words(Algorithm, "Scheme `template`."),
        "encoding": _words(Encoding, "Scheme `template`: of the signature."),
        "key_encoding": _words(KeyEncoding, "Scheme `template`: of the secret."),
        "strip_prefix": text("Scheme `template`: taken off the secret before it is decoded.", maxLength=64),
    },
    required=("scheme",),
)

_STATUSES: Json = {
    "type": "array",
    "items": {"type": "integer", "minimum": 200, "maximum": 599},
    "minItems": 1,
    "maxItems": 400,
}
_DELAYS: Json = {"type": "array", "items": _duration("", "5m"), "maxItems": 1000}

DELIVERY_KEYS: dict[str, Json] = {
    "timeout": _duration("Whole attempt, body included.", "15s"),
    "connect_timeout": _duration("For the connection.", "5s"),
    "ack": {
        "anyOf": [{"const": "2xx"}, _STATUSES],
        "description": "Statuses that acknowledge.",
        "examples": ["2xx", [200, 202]],
    },
    "retry": {
        "anyOf": [
            _DELAYS,
            keys(
                {
                    "first": _duration("The first delay.", "5m"),
                    "factor": {"type": "number", "minimum": 1, "maximum": 100},
                    "retries": {"type": "integer", "minimum": 0, "maximum": 1000},
                    "max": _duration("No delay is longer.", "1d"),
                },
                required=("first", "factor", "retries", "max"),
            ),
        ],
        "description": "Delays before the retries; none in an empty list.",
        "examples": [["5s", "5m", "30m"]],
    },
    "jitter": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "By up to which share a delay is lengthened.",
    },
    "give_up_after": _duration("Age at which a delivery is dead, whatever is left of its retries.", "5d"),
    "retry_after_max": _duration("How far a Retry-After may hold the endpoint.", "1h"),
    "disable_after_days": {
        "type": "integer",
        "minimum": 0,
        "maximum": 3650,
        "description": "UTC dates with failures in a streak at which the endpoint is disabled; 0 is never.",
    },
    "disable_min_failures": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1_000_000,
        "description": "Failed attempts there have to be as well.",
    },
    "gone": _words(Gone, "What an answer of 410 means."),
    "concurrency": {
        "type": "integer",
        "minimum": 1,
        "maximum": 65_536,
        "description": "Most requests in flight.",
    },
    "rate": text("Most requests in a time; empty for no limit.", examples=["50/s"]),
    "ordered": {"type": "boolean", "description": "One after the other, in the order of acceptance."},
    "body": _words(Body, "What is sent: the payload as it is, or wrapped with type and time."),
    "headers": {
        "type": "object",
        "additionalProperties": text(),
        "maxProperties": 64,
        "description": "Static headers; {secret} {event_id} {event_type} {attempt} {tenant} are filled in.",
    },
    "standard_headers": {
        "type": "boolean",
        "description": "Whether to send User-Agent, webhook-id and webhook-timestamp.",
    },
    "signatures": {
        "type": "array",
        "items": SIGNATURE,
        "maxItems": 8,
        "description": "How requests are signed.",
        "examples": [[{"scheme": "standard"}]],
    },
}

ENDPOINT_KEYS: dict[str, Json] = {
    "url": text("Where to deliver.", examples=["https://example.com/hook"]),
    "tenant": text("Whose events it gets; `*` for everybody's.", pattern=r"^(\*|[A-Za-z0-9_.-]{1,64})$"),
    "types": {
        "type": "array",
        "items": text(pattern=GLOB_PATTERN),
        "maxItems": 1000,
        "description": "Globs of event types; empty for every type.",
        "examples": [["order.*"]],
    },
    "where": WHERE,
    "profile": text("A profile of the configuration file whose rules it builds on.", pattern="^[A-Za-z0-9_.-]{1,64}$"),
    "description": text("For people.", maxLength=1024),
    "basic_auth": nullable(
        keys(
            {"username": text(maxLength=1024), "password": text("Shown masked.", maxLength=4096)},
            required=("username", "password"),
        )
    ),
    **DELIVERY_KEYS,
}
"""Keys that are taken and shown."""

GENERATED_SECRET = text("The secret that was generated. It is shown here and never again.")

IN_API_ONLY: dict[str, Json] = {
    "secret": text("Signs the requests; generated where one is needed and none is given. Never shown."),
    "sample": {"description": "Any JSON: what a test send delivers, byte for byte. Never shown."},
    "url_secret": {"type": "boolean", "description": "Show only scheme and host of the URL, everywhere."},
}
"""Keys that stand elsewhere in the configuration file."""
