"""The settings as frozen values with their defaults; `config` only fills them."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from webhookd.core.filtering import EVERYTHING, Where
from webhookd.core.ids import EndpointId
from webhookd.core.masking import masked_url

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR

Network = IPv4Network | IPv6Network


class Role(StrEnum):
    """What a caller may do: hand in events, look, or everything."""

    INGEST = "ingest"
    READ = "read"
    OPERATE = "operate"

    def allows(self, needed: Role) -> bool:
        """Say whether this role may do what `needed` may; ingest and read do not include each other."""
        return self is Role.OPERATE or self is needed


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system; `mode` holds its permission bits."""

    path: Path
    mode: int = 0o660

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP address to bind; `host` is a literal address or a name, port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp:[{self.host}]:{self.port}" if ":" in self.host else f"tcp:{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ActivatedAddress:
    """A socket handed over by systemd under `name` (FileDescriptorName=)."""

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}"


ListenAddress = UnixAddress | TcpAddress | ActivatedAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """One `[[listen]]` table."""

    address: ListenAddress = TcpAddress("127.0.0.1", 8470)
    role: Role = Role.OPERATE
    hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One `[[token]]` table: a bearer token and what it allows."""

    name: str
    role: Role
    secret: str = field(repr=False)


class OnNoMatch(StrEnum):
    """What to do with an event that no endpoint subscribes to."""

    ACCEPT = "accept"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest:
    """The `[ingest]` table."""

    max_payload_bytes: int = 256 * KIB
    max_batch: int = 1000
    max_request_bytes: int = 16 * MIB
    on_no_match: OnNoMatch = OnNoMatch.ACCEPT
    idempotency_window_seconds: float = 7 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The `[store]` table; `path` is the database file."""

    path: Path
    max_size_bytes: int = 10 * GIB
    min_free_bytes: int = 256 * MIB
    keep_delivered_seconds: float = 7 * DAY
    keep_dead_seconds: float = 30 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRules:
    """The `[network]` table; `proxy` is `http://host:port`, None to dial endpoints directly."""

    allow: tuple[Network, ...] = ()
    plain_http: bool = False
    proxy: str | None = None
    max_in_flight: int = 1024
    drain_timeout_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class RetryList:
    """Delays in seconds, one for each retry; empty means no retries."""

    delays_seconds: tuple[float, ...] = (
        5.0,
        5 * MINUTE,
        30 * MINUTE,
        2 * HOUR,
        5 * HOUR,
        10 * HOUR,
        14 * HOUR,
        20 * HOUR,
        DAY,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryGrowth:
    """Delays that start at `first_seconds` and grow by `factor` up to `max_seconds`, `retries` times."""

    first_seconds: float
    factor: float
    retries: int
    max_seconds: float


RetryPlan = RetryList | RetryGrowth


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Which statuses acknowledge a delivery: the listed ones, or all of 200 to 299 when `statuses` is None."""

    statuses: frozenset[int] | None = None

    def accepts(self, status: int) -> bool:
        """Say whether `status` acknowledges."""
        return 200 <= status <= 299 if self.statuses is None else status in self.statuses


class Gone(StrEnum):
    """What a 410 means: disable the endpoint, or just a failed attempt."""

    DISABLE = "disable"
    FAIL = "fail"


class Body(StrEnum):
    """What is sent: the producer's bytes, or a JSON object around them."""

    PAYLOAD = "payload"
    ENVELOPE = "envelope"


class Scheme(StrEnum):
    """How a request is signed: by a published format, or by a template of one's own."""

    STANDARD = "standard"
    STRIPE = "stripe"
    GITHUB = "github"
    SHOPIFY = "shopify"
    SLACK = "slack"
    TEMPLATE = "template"
    ED25519 = "ed25519"


class Algorithm(StrEnum):
    """The hash under an HMAC."""

    SHA256 = "sha256"
    SHA512 = "sha512"
    SHA1 = "sha1"


class Encoding(StrEnum):
    """How the bytes of a signature are written."""

    HEX = "hex"
    BASE64 = "base64"


class KeyEncoding(StrEnum):
    """How the text of a secret becomes the bytes of a key."""

    RAW = "raw"
    BASE64 = "base64"
    HEX = "hex"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One entry of `signatures`; `secret` is its own, None for that of the endpoint.

    All from `header` on is for templates: `value` may hold {signature} {id} {timestamp}, `content` {id} {timestamp}
    {body}; `strip_prefix` is taken off the secret, where it has it, before that becomes a key.
    """

    scheme: Scheme = Scheme.STANDARD
    secret: str | None = field(default=None, repr=False)
    header: str = ""
    value: str = "{signature}"
    content: str = "{body}"
    algorithm: Algorithm = Algorithm.SHA256
    encoding: Encoding = Encoding.HEX
    key_encoding: KeyEncoding = KeyEncoding.RAW
    strip_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuth:
    """Credentials for HTTP Basic authentication (RFC 7617)."""

    username: str
    password: str = field(repr=False)

    @property
    def token(self) -> str:
        """What stands behind `Basic` in the header, in UTF-8."""
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files for one endpoint: whom to trust instead of the system's authorities, and who we are.

    Without `client_key_file` the key stands in `client_cert_file`. `fingerprint` (hex) is that of what was in the files
    when they were read, so that two readings of the same paths are equal only where nothing was replaced between them.
    """

    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRules:
    """The `[delivery]` table, and what a profile or an endpoint makes of it.

    `rate_per_second` is None for no limit. `headers` are pairs in configured order with their placeholders unfilled.
    """

    timeout_seconds: float = 15.0
    connect_timeout_seconds: float = 5.0
    ack: Acknowledgement = Acknowledgement()
    retry: RetryPlan = RetryList()
    jitter: float = 0.1
    give_up_after_seconds: float = 5 * DAY
    retry_after_max_seconds: float = HOUR
    disable_after_days: int = 5
    disable_min_failures: int = 12
    gone: Gone = Gone.DISABLE
    concurrency: int = 32
    rate_per_second: float | None = None
    ordered: bool = False
    body: Body = Body.PAYLOAD
    headers: tuple[tuple[str, str], ...] = ()
    standard_headers: bool = True
    signatures: tuple[Signature, ...] = (Signature(),)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointDefinition:
    """A receiver as it is configured, with its rules worked out from endpoint, profile and `[delivery]`.

    `given` holds the keys its owner wrote, in the JSON form of the API, so that they can be shown once what is secret
    among them is masked. `secret` is None where there is none; after a rotation requests are signed by
    `previous_secret` as well until `previous_secret_until_ms` (UTC). With `url_is_secret`, only scheme and host are
    ever shown. `sample` is what a test send delivers, None for the built-in one.
    """

    id: EndpointId
    url: str = field(repr=False)
    tenant: str
    types: tuple[str, ...] = ()
    where: Where = EVERYTHING
    profile: str | None = None
    secret: str | None = field(default=None, repr=False)
    previous_secret: str | None = field(default=None, repr=False)
    previous_secret_until_ms: int | None = None
    url_is_secret: bool = False
    basic_auth: BasicAuth | None = None
    tls: TlsFiles | None = None
    sample: bytes | None = field(default=None, repr=False)
    description: str = ""
    rules: DeliveryRules = DeliveryRules()
    given: dict[str, object] = field(default_factory=dict, repr=False)
    declared: bool = False

    @property
    def shown_url(self) -> str:
        """The URL as it may be shown anywhere."""
        return masked_url(self.url, is_secret=self.url_is_secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a daemon needs to know, validated; `source` is the file it came from, None for built-in defaults."""

    source: Path | None
    listen: tuple[Listen, ...]
    tokens: tuple[Token, ...]
    ingest: Ingest
    storage: Storage
    network: NetworkRules
    delivery: DeliveryRules
    profiles: dict[str, DeliveryRules]
    endpoints: dict[EndpointId, EndpointDefinition]
    warnings: tuple[str, ...] = ()
