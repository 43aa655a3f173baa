"""Which failure ends with which code."""

import json

import pytest

from webhookd.cli.exits import failure_of
from webhookd.errors import (
    AlreadyRunningError,
    ConfigError,
    ConfigErrors,
    NotFoundError,
    SchemaVersionError,
    StateDirectoryError,
    StoreCorruptError,
    StoreIOError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigErrors([ConfigError("store.path", "must be text")]), 78),
        (ConfigError("store.path", "must be text"), 78),
        (StateDirectoryError("/var/lib/webhookd is not writable by uid 7"), 78),
        (SchemaVersionError("written by a newer webhookd"), 65),
        (StoreCorruptError("fails its checks"), 65),
        (StoreIOError("disk I/O error"), 74),
        (AlreadyRunningError("/var/lib/webhookd", 12), 75),
        (NotFoundError("nobody should let this through"), 70),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_failure_has_its_code(error, code):
    assert failure_of(error).code == code


def test_every_complaint_about_the_configuration_has_its_own_line(capsys):
    errors = ConfigErrors([ConfigError("listen", "is wrong"), ConfigError("store.path", "must be text")])
    failure_of(errors).show(as_json=False)
    assert capsys.readouterr().err.splitlines() == ["webhookd: listen: is wrong", "webhookd: store.path: must be text"]


def test_a_machine_gets_the_complaints_with_their_keys(capsys):
    failure_of(ConfigErrors([ConfigError("store.path", "must be text")])).show(as_json=True)
    said = json.loads(capsys.readouterr().err)
    assert said["errors"] == [{"key": "store.path", "detail": "must be text"}]
    assert said["exit_code"] == 78
