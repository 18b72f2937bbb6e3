"""This machine: its load, ports and files."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import socket
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil

from adapters.host.private_files import MIB, read_regular
from models.containers import SystemSample

_FILES_HASHED = 20_000


def sample_host(path: Path, now: datetime) -> SystemSample:
    """Measure the machine; disk and inodes are those of the file system that holds `path`.

    Raises:
        OSError: Neither `path` nor a parent can be read.
    """
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    disk = os.statvfs(_existing_parent(path))
    network = psutil.net_io_counters()
    load_1m, load_5m, load_15m = os.getloadavg()
    return SystemSample(
        sampled_at=now,
        cpu_busy_seconds=_cpu_busy_seconds(),
        load_1m=load_1m,
        load_5m=load_5m,
        load_15m=load_15m,
        cpus=psutil.cpu_count() or 1,
        memory_total_bytes=memory.total,
        memory_available_bytes=memory.available,
        swap_used_bytes=swap.used,
        disk_total_bytes=disk.f_blocks * disk.f_frsize,
        disk_free_bytes=disk.f_bavail * disk.f_frsize,
        inodes_total=disk.f_files,
        inodes_free=disk.f_favail,
        network_rx_bytes=network.bytes_recv if network else 0,
        network_tx_bytes=network.bytes_sent if network else 0,
        open_files_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        pressure_cpu=_pressure("cpu"),
        pressure_memory=_pressure("memory"),
        pressure_io=_pressure("io"),
        open_files_most=_most_open_files(),
    )


def port_is_free(host: str, port: int, protocol: str = "tcp") -> bool:
    """Whether a server could listen on a port of an address; an empty host means all addresses."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as trial:
        # Without this a lingering connection of an earlier server would count as a holder.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1 if protocol == "tcp" else 0)
        try:
            trial.bind((host, port))
        except OSError:
            return False
    return True


def port_holder(port: int, protocol: str = "tcp") -> str | None:
    """The process that listens on a port, as "name (pid 123)", or None. Only root sees other users' processes."""
    for connection in psutil.net_connections(kind="udp" if protocol == "udp" else "tcp"):
        listening = protocol == "udp" or connection.status == psutil.CONN_LISTEN
        if listening and connection.laddr and connection.laddr.port == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                continue
    return None


def unwritable_by(path: Path, user: str) -> bool:
    """Whether a folder's mode certainly keeps a user, given by number or name, from writing into it.

    The number of a name inside an image is unknown, so it counts as the owner unless that is root. Groups are
    unknown too, so a folder that its group may write into passes.
    """
    reported = path.stat()
    owns = user == str(reported.st_uid) if user.isdigit() else reported.st_uid != 0
    return not owns and not reported.st_mode & 0o022


def file_problem(path: Path) -> str | None:
    """Why a path of the host cannot be mounted, or None."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "it does not exist"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    access = os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK
    return None if os.access(path, access) else "this user may not read it"


def readable_by_all(path: Path) -> bool:
    """Whether every user may read a file, or read and enter a folder."""
    mode = path.stat().st_mode
    permissions = 0o005 if stat.S_ISDIR(mode) else 0o004
    return mode & permissions == permissions


def content_hash(path: Path, *, at_most: int = 16 * MIB) -> str:
    """Hash a file, or all regular files under a folder with their names.

    Raises:
        OSError: It cannot be read, is neither a regular file nor a folder, or has too many bytes or files.
    """
    files = sorted(_files_below(path)) if path.is_dir() else [path]
    if sum(file.stat().st_size for file in files) > at_most:
        raise OSError(errno.EFBIG, "it is too large", str(path))
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(path)).encode() + b"\0")
        digest.update(hashlib.sha256(read_regular(file, at_most=at_most)).digest())
    return digest.hexdigest()


def _files_below(folder: Path) -> Iterator[Path]:
    for number, path in enumerate(folder.rglob("*")):
        if number >= _FILES_HASHED:
            raise OSError(errno.EFBIG, "it holds too many files", str(folder))
        if path.is_file():
            yield path


def _cpu_busy_seconds() -> float:
    times = psutil.cpu_times()
    # The time of guests is part of the host's already; waiting for a disk keeps no processor busy.
    idle = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guests)


def _existing_parent(path: Path) -> Path:
    """The path, or its nearest existing parent: a data folder may not exist yet."""
    ancestor = path.absolute()
    while not ancestor.exists() and ancestor != ancestor.parent:
        ancestor = ancestor.parent
    return ancestor


def _most_open_files() -> int | None:
    """The kernel's limit for a process; None on systems without it."""
    try:
        return int(Path("/proc/sys/fs/nr_open").read_text(encoding="ascii"))
    except OSError:
        return None


def _pressure(kind: str) -> float | None:
    """The kernel's pressure "some avg10", 0-100; None on kernels without it."""
    try:
        text = Path(f"/proc/pressure/{kind}").read_text(encoding="ascii")
    except OSError:
        return None
    return float(text.split("avg10=", 1)[1].split(maxsplit=1)[0])
