"""The script by which a new host installs and enrols, with a control plane that has the program and one without."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.server.program import SCRIPT
from flows.fleet.host_install import install_file
from tests.support.commands import run_roas_text
from tests.support.ports import free_port

WHEEL = "roas_ops-1.2.3-py3-none-any.whl"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What answers below /roas/install, with no program yet."""
    (tmp_path / "program").mkdir()
    monkeypatch.setenv("ROAS_INSTALL_DIR", str(tmp_path / "program"))

    def answer(request: Request) -> Response:
        return install_file(request.url.path)

    application = Starlette(routes=[Route("/roas/install{rest:path}", answer)])
    running = uvicorn.Server(uvicorn.Config(application, port=(port := free_port()), log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        running.should_exit = True
        thread.join()


def fetched(address: str) -> str:
    fetch = ["curl", "--silent", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", address]
    return subprocess.run(fetch, check=True, capture_output=True, text=True).stdout


ASIDE = 'mount -t tmpfs none /opt && mount -t tmpfs none /usr/local/bin && exec "$0" "$@"'
"""Where root installs it, nothing of this machine is changed."""


def installing(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What the script does with these words; no index is asked for packages."""
    variables = os.environ | {"HOME": str(folder), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    aside = ["unshare", "--mount", "sh", "-c", ASIDE] if os.geteuid() == 0 else []
    command = [*aside, "sh", "-s", "--", *words]
    return subprocess.run(
        command, stdin=SCRIPT.open(), env=variables, cwd=folder, capture_output=True, text=True, check=False
    )


def write_program(folder: Path) -> None:
    """A program that only says its version, and needs nothing."""
    files = {
        "roas.py": "def main():\n    print('roas 1.2.3')\n",
        "roas_ops-1.2.3.dist-info/METADATA": "Metadata-Version: 2.1\nName: roas-ops\nVersion: 1.2.3\n",
        "roas_ops-1.2.3.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "roas_ops-1.2.3.dist-info/entry_points.txt": "[console_scripts]\nroas = roas:main\n",
    }
    files["roas_ops-1.2.3.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files)
    with ZipFile(folder / WHEEL, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    (folder / "requirements.txt").write_text("# none\n")


def test_the_program_is_handed_out_with_its_script(server: str, tmp_path: Path) -> None:
    assert "no program to hand out" in fetched(f"{server}/roas/install")
    (tmp_path / "program" / WHEEL).write_text("a wheel")
    (tmp_path / "program" / "requirements.txt").write_text("pinned")

    assert fetched(f"{server}/roas/install") == SCRIPT.read_text()
    assert fetched(f"{server}/roas/install/wheel") == f"{WHEEL}\n"
    assert fetched(f"{server}/roas/install/{WHEEL}") == "a wheel"
    assert fetched(f"{server}/roas/install/requirements.txt") == "pinned"
    assert "There is no such file" in fetched(f"{server}/roas/install/{WHEEL}x")


def test_a_script_that_breaks_off_does_nothing(tmp_path: Path) -> None:
    whole = SCRIPT.read_text()
    for part in (whole[: len(whole) // 2], whole[:-10]):
        subprocess.run(
            ["sh", "-s", "--", "http://127.0.0.1:1", "TOKEN"], input=part, text=True, cwd=tmp_path, check=False
        )
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_said(server: str, tmp_path: Path) -> None:
    done = installing(tmp_path)
    assert (done.returncode, "Paste the whole line" in done.stderr) == (1, True)
    done = installing(tmp_path, server, "TOKEN")
    assert done.returncode == 1
    assert "requirements.txt cannot be fetched" in done.stderr


def test_without_a_token_the_program_is_renewed_and_nobody_enrols(server: str, tmp_path: Path) -> None:
    write_program(tmp_path / "program")
    fetched(f"{server}/roas/install/wheel")
    done = installing(tmp_path, server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "installed roas 1.2.3; restart the agent: systemctl restart roas-worker" in done.stdout


@pytest.mark.parametrize(("name", "said"), [("fleet", "channels of that name are for all"), ("Fleet", "is no name")])
def test_no_host_is_invited_by_a_name_that_is_not_its_own(tmp_path: Path, name: str, said: str) -> None:
    done = run_roas_text("fleet", "invite", name, cwd=tmp_path, env=os.environ | {"PREFECT_HOME": str(tmp_path)})
    assert done.returncode == 2
    assert said in done.stderr
