"""Content types: what a header value says, without guessing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from webhookd.core.event import is_json_type

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the RFC's word for a run of characters, no secret
_MEDIA_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})[ \t]*(?:;[\x20-\x7e\t]*)?\Z")
_LONGEST = 255

OCTET_STREAM = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaType:
    """A content type; `text` as it was written, `essence` in lower case without parameters."""

    text: str
    essence: str

    @property
    def is_json(self) -> bool:
        """Say whether such a body has to be JSON (RFC 6839 suffix included)."""
        return is_json_type(self.essence)


@lru_cache(maxsize=256)
def parse_media_type(text: str) -> MediaType | None:
    """Read a content type of at most 255 ASCII characters; None where it is not one (RFC 9110, section 8.3.1)."""
    match = _MEDIA_TYPE.match(text)
    if match is None or len(text) > _LONGEST:
        return None
    return MediaType(text=text, essence=match.group(1).lower())
