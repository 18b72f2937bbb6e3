"""The systemd unit that `roas service install` writes."""

import os
import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.host import systemd
from adapters.host.systemd import Service, ServiceManager, report_ready, unit_text
from models.failures import BadInputError, RoasError

ODD = "a folder/100%"


def service(folder: Path, *, is_system: bool) -> Service:
    program = folder / "roas"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    variables = {"ROAS_CONFIG": str(folder / "roas.yaml")}
    return Service(program=program, data_dir=folder / "data", variables=variables, is_system=is_system)


@pytest.mark.parametrize("is_system", [True, False])
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit_without_a_warning(tmp_path: Path, is_system: bool) -> None:
    folder = tmp_path / ODD
    folder.mkdir(parents=True)
    unit = tmp_path / systemd.UNIT
    unit.write_text(unit_text(service(folder, is_system=is_system)))
    done = subprocess.run(
        ["systemd-analyze", "verify", *([] if is_system else ["--user"]), unit], capture_output=True, text=True
    )
    own = [line for line in done.stderr.splitlines() if systemd.UNIT in line]
    assert own == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_of_the_machine_is_little_exposed(tmp_path: Path) -> None:
    unit = tmp_path / systemd.UNIT
    unit.write_text(unit_text(service(tmp_path, is_system=True)))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=40", unit], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_unit_names_program_data_and_variables(tmp_path: Path) -> None:
    folder = tmp_path / ODD
    folder.mkdir(parents=True)
    text = unit_text(service(folder, is_system=True))
    quoted = str(folder).replace("%", "%%")
    assert f'ExecStart="{quoted}/roas" serve\n' in text
    assert f'Environment="ROAS_DATA_DIR={quoted}/data"\n' in text
    assert f'Environment="ROAS_CONFIG={quoted}/roas.yaml"\n' in text
    assert f'ReadWritePaths="{quoted}/data" ' in text
    for line in ("Type=notify", "Restart=on-failure", "NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes"):
        assert f"\n{line}\n" in text


@pytest.mark.parametrize("is_system", [True, False])
def test_the_unit_of_a_worker_is_started_anew_where_it_hangs(tmp_path: Path, is_system: bool) -> None:
    mine = replace(service(tmp_path, is_system=is_system), command=("worker", "--pool", "host a"))
    text = unit_text(mine)
    assert mine.unit == systemd.WORKER_UNIT
    assert systemd.unit_file(is_system=is_system, unit=mine.unit).name == "roas-worker.service"
    assert f'ExecStart={tmp_path}/roas worker --pool "host a"\n' in text
    assert "\nType=notify\n" in text
    assert "\nWatchdogSec=90\n" in text


def test_signs_of_life_are_given_where_systemd_waits_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.setenv("WATCHDOG_USEC", "90000000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        mine = ServiceManager()
        mine.ready("3 environments")
        mine.alive()
        mine.notify_stopping()
        said = [manager.recv(100) for _ in range(3)]
    assert said == [b"READY=1\nSTATUS=3 environments", b"WATCHDOG=1", b"STOPPING=1"]
    assert mine.watchdog_seconds == 90
    # A process that this one starts must not speak for it.
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()


def test_a_unit_of_another_program_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = systemd.unit_file(is_system=False)
    file.parent.mkdir(parents=True)
    file.write_text("[Unit]\nDescription=mine\n")
    with pytest.raises((BadInputError, RoasError)):
        systemd.remove(is_system=False)
    assert "mine" in file.read_text()


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs here")
def test_where_systemd_does_not_run_the_error_says_what_to_do() -> None:
    with pytest.raises(RoasError, match="roas serve"):
        systemd.state(is_system=True)


@pytest.mark.parametrize("prefix", ["", "@"])
def test_readiness_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}" if prefix else name)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if prefix else name)
        report_ready()
        report_ready()
        assert manager.recv(100) == b"READY=1"
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
