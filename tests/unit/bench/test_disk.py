"""Which file system a directory is on."""

from pathlib import Path

import pytest

from bench.disk import file_system

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:27 / /dev/shm rw,nosuid - tmpfs tmpfs rw
31 22 0:28 / /srv/my\\040disk rw - xfs /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [("/", "ext4"), ("/dev/shm", "tmpfs"), ("/dev/shm/a", "tmpfs"), ("/dev/shmem", "ext4"), ("/srv/my disk/a", "xfs")],
)
def test_the_innermost_mount_decides(directory, kind):
    assert file_system(Path(directory), MOUNTS) == kind
