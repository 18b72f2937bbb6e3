"""The machine: load, ports and files."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.host.machine import (
    content_hash,
    file_problem,
    port_holder,
    port_is_free,
    readable_by_all,
    sample_host,
)
from tests.support.ports import free_port

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_host_is_measured_where_the_path_lies_even_before_it_exists(tmp_path: Path) -> None:
    sample = sample_host(tmp_path / "not" / "yet", NOON)
    assert sample.sampled_at == NOON
    assert 0 < sample.disk_free_bytes <= sample.disk_total_bytes
    assert 0 < sample.memory_available_bytes <= sample.memory_total_bytes
    assert sample.cpus >= 1
    assert sample.open_files_limit > 0


def test_a_port_is_free_until_a_process_listens_on_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not port_is_free("127.0.0.1", port)
        assert not port_is_free("", port)
        assert port_is_free("127.0.0.2", port)
        assert f"(pid {os.getpid()})" in (port_holder(port) or "")
    assert port_is_free("127.0.0.1", port)
    assert port_holder(port) is None


def test_a_port_of_the_other_protocol_is_another_port() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        # A number that the kernel gives for one protocol may be in use for the other.
        port = free_port()
        server.bind(("127.0.0.1", port))
        assert not port_is_free("127.0.0.1", port, "udp")
        assert port_holder(port, "udp") is not None
        assert port_is_free("127.0.0.1", port, "tcp")


def test_what_cannot_be_mounted_is_reported_why(tmp_path: Path) -> None:
    assert file_problem(tmp_path) is None
    assert file_problem(tmp_path / "gone") == "it does not exist"
    file = tmp_path / "file"
    file.write_text("x")
    assert file_problem(file) is None
    assert file_problem(file / "below") == "not a directory"


@pytest.mark.parametrize(("mode", "open_to_all"), [(0o644, True), (0o640, False), (0o600, False)])
def test_a_file_is_open_to_all_by_its_mode(tmp_path: Path, mode: int, *, open_to_all: bool) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    file.chmod(mode)
    assert readable_by_all(file) is open_to_all


def test_a_hash_follows_the_content_and_the_names_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("one")
    first = content_hash(tmp_path)
    assert content_hash(tmp_path) == first
    (tmp_path / "sub" / "a").write_text("two")
    second = content_hash(tmp_path)
    (tmp_path / "sub" / "a").rename(tmp_path / "sub" / "b")
    assert len({first, second, content_hash(tmp_path)}) == 3
    assert content_hash(tmp_path / "sub" / "b") != second


def test_a_hash_waits_for_no_fifo_reads_no_device_and_knows_a_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x" * 10)
    before = content_hash(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert content_hash(tmp_path) == before
    for path, said in (
        (tmp_path / "fifo", "no regular file"),
        (tmp_path / "zero", "no regular file"),
        (tmp_path, "too large"),
    ):
        with pytest.raises(OSError, match=said):
            content_hash(path, at_most=9)
