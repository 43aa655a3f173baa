"""What a patch makes of the keys of an API-made endpoint."""

from __future__ import annotations

from collections.abc import Mapping

from webhookd.errors import Fault, InvalidRequestError


def patched(given: Mapping[str, object], patch: Mapping[str, object]) -> dict[str, object]:
    """Apply an RFC 7396 merge patch to the keys an endpoint was given: null removes, objects merge, all else replaces.

    Raises InvalidRequestError for one that would bring a secret URL to light: `url_secret` ends only together with
    another URL, which whoever gives it knows anyway.
    """
    merged = _merged(given, patch)
    was_secret, is_secret = (keys.get("url_secret") is True for keys in (given, merged))
    if was_secret and not is_secret and merged.get("url") == given.get("url"):
        fault = Fault("/url_secret", "would show the URL, which is a secret: give another url along with it")
        raise InvalidRequestError("invalid_endpoint", f"{fault.pointer}: {fault.detail}", faults=(fault,))
    return merged


def _merged(target: Mapping[str, object], patch: Mapping[str, object]) -> dict[str, object]:
    merged = dict(target)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            before = merged.get(key)
            merged[key] = _merged(before if isinstance(before, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged
