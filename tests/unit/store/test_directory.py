"""The directory of the database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from webhookd.errors import AlreadyRunningError, StateDirectoryError
from webhookd.store.sqlite.directory import LOCK_NAME, DirectoryLock, filesystem_type, prepare_directory


def test_the_kernel_says_what_file_system_it_is() -> None:
    assert filesystem_type(Path("/proc")) == "proc"


def test_a_path_that_is_not_there_has_no_file_system(tmp_path: Path) -> None:
    assert filesystem_type(tmp_path / "missing") == ""


def test_directories_are_made_with_their_parents(tmp_path: Path) -> None:
    wanted = tmp_path / "a" / "b"
    assert prepare_directory(wanted, filesystem=lambda _: "ext4") == ()
    assert wanted.is_dir()


def test_a_directory_that_cannot_be_made_is_refused_with_path_and_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wanted = tmp_path / "file" / "state"
    with pytest.raises(StateDirectoryError) as caught:
        prepare_directory(wanted, filesystem=lambda _: "ext4")
    assert str(wanted) in str(caught.value)
    assert f"user id {os.geteuid()}" in str(caught.value)


def test_the_lock_names_its_holder_and_is_taken_again_after_release(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"
    with pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()}"):
        DirectoryLock(tmp_path)
    lock.release()
    lock.release()
    DirectoryLock(tmp_path).release()


def test_a_lock_file_without_a_pid_is_no_obstacle_to_refusing(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    (tmp_path / LOCK_NAME).write_text("gibberish")
    with pytest.raises(AlreadyRunningError) as caught:
        DirectoryLock(tmp_path)
    assert caught.value.pid == 0
    lock.release()
