"""The service units load, give the daemon no more than it needs, and agree with it about exit codes and times."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from webhookd.core.settings import DeliveryRules, NetworkRules

UNITS = Path(__file__).parents[2] / "systemd"
SERVICE, SOCKET, SYSUSERS = UNITS / "webhookd.service", UNITS / "webhookd.socket", UNITS / "webhookd.sysusers"

analyze = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(analyze is None, reason="no systemd-analyze: apt-get install systemd")
needs_sysusers = pytest.mark.skipif(
    shutil.which("systemd-sysusers") is None, reason="no systemd-sysusers: apt-get install systemd"
)


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def directives(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=["="])
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    return parser


def exposure(service: Path) -> subprocess.CompletedProcess[str]:
    return run(analyze, "security", "--offline=yes", "--threshold=11", "--no-pager", service)


@needs_analyze
def test_exposure_is_at_most_one_point_one():
    result = exposure(SERVICE)
    assert result.returncode == 0, result.stdout


@needs_analyze
def test_the_exposure_gate_sees_a_line_less(tmp_path):
    weaker = tmp_path / SERVICE.name
    weaker.write_text(SERVICE.read_text().replace("ProtectSystem=strict\n", ""))
    assert exposure(weaker).returncode != 0


@needs_analyze
@pytest.mark.parametrize("unit", [SERVICE, SOCKET], ids=lambda unit: unit.name)
def test_units_load_without_a_complaint(unit, tmp_path):
    for original in (SERVICE, SOCKET):
        text = original.read_text().replace("ExecStart=/usr/bin/webhookd ", f"ExecStart={sys.executable} ")
        (tmp_path / original.name).write_text(text.replace("/bin/kill ", f"{sys.executable} "))
    result = run(analyze, "verify", "--man=no", tmp_path / unit.name)
    assert result.returncode == 0, result.stdout
    # A value that cannot be read is ignored with a line of output and no more; other units of the host are not ours.
    assert [line for line in result.stdout.splitlines() if "webhookd" in line] == []


@needs_sysusers
def test_the_users_that_the_units_name_are_made(tmp_path):
    (tmp_path / "etc").mkdir()
    result = run("systemd-sysusers", f"--root={tmp_path}", SYSUSERS)
    assert result.returncode == 0, result.stdout
    users = {line.split(":")[0] for line in (tmp_path / "etc/passwd").read_text().splitlines()}
    groups = {line.split(":")[0] for line in (tmp_path / "etc/group").read_text().splitlines()}
    assert directives(SERVICE)["Service"]["User"] in users
    assert directives(SOCKET)["Socket"]["SocketGroup"] in groups


def test_one_directive_stands_on_a_line():
    for unit in (SERVICE, SOCKET):
        lines = [line for line in unit.read_text().splitlines() if line and not line.startswith(("#", "["))]
        assert [line for line in lines if not line.split("=")[0].isalpha()] == []


def test_what_a_restart_cannot_cure_is_not_restarted():
    """Usage 2, database refused 65, configuration 78; an I/O error (74) and a crash (70) are cured by a restart."""
    assert directives(SERVICE)["Service"]["RestartPreventExitStatus"].split() == ["2", "65", "78"]


def test_the_producers_socket_outlives_the_daemon():
    """A socket inside the daemon's runtime directory would be removed with it at each stop."""
    directory = directives(SERVICE)["Service"]["RuntimeDirectory"]
    assert not directives(SOCKET)["Socket"]["ListenStream"].startswith(f"/run/{directory}/")


def test_a_stop_leaves_time_to_drain():
    """systemd kills at TimeoutStopSec; the grace for requests in flight, and one whole attempt, must fit."""
    limit = directives(SERVICE)["Service"]["TimeoutStopSec"]
    assert limit.endswith("s")
    assert int(limit[:-1]) > NetworkRules().drain_timeout_seconds + DeliveryRules().timeout_seconds
