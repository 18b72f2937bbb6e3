"""Image builds and set-up survive a package mirror that drops, cuts off or never sends an answer."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.support.flaky_mirror import FlakyMirror, flaky_mirror

pytestmark = pytest.mark.campaign

ROOT = Path(__file__).parents[3]
FAILURES = ("drop", "cut", "stall")
# Seconds until a stalled download is given up; long enough in use, short enough here.
TIMEOUT = "1"


@pytest.fixture
def debian_mirror(tmp_path: Path) -> Path:
    """Return a folder with an index and one package, as apt reads them."""
    folder, content = tmp_path / "debian", tmp_path / "content"
    folder.mkdir()
    (content / "DEBIAN").mkdir(parents=True)
    fields = "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: tests <tests@example.com>\n"
    (content / "DEBIAN/control").write_text(f"{fields}Description: tiny\n")
    content.chmod(0o755)
    (content / "DEBIAN").chmod(0o755)
    package = folder / "tiny_1_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", content, package], check=True, capture_output=True)
    index = f"{fields}Filename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {_sha256(package)}\n"
    (folder / "Packages").write_text(f"{index}Description: tiny\n")
    size, digest = len((folder / "Packages").read_bytes()), _sha256(folder / "Packages")
    (folder / "Release").write_text(f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {digest} {size} Packages\n")
    return folder


@pytest.fixture
def python_index(tmp_path: Path) -> Path:
    """Return a folder with an index and one wheel, as pip and uv read them."""
    folder = tmp_path / "python/tiny"
    folder.mkdir(parents=True)
    wheel = folder / "tiny-1-py3-none-any.whl"
    about = "tiny-1.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", f"tiny.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    link = f'<a href="/tiny/{wheel.name}#sha256={_sha256(wheel)}">{wheel.name}</a>'
    (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")
    return folder.parent


@pytest.mark.engine
def test_an_image_build_downloads_debian_packages_again_that_did_not_arrive(debian_mirror: Path) -> None:
    with flaky_mirror(debian_mirror, *FAILURES) as mirror:
        dockerfile = (
            "FROM roas/base:local\n"
            f"RUN echo 'Acquire::http::Timeout \"{TIMEOUT}\";' >/etc/apt/apt.conf.d/99-tests"
            " && rm -f /etc/apt/sources.list.d/*"
            f" && echo 'deb [trusted=yes] http://127.0.0.1:{mirror.port}/ ./' >/etc/apt/sources.list"
            " && apt-get update && apt-get install -y tiny\n"
        )
        built = subprocess.run(
            ["docker", "build", "--network", "host", "--progress", "plain", "-"],
            input=dockerfile, capture_output=True, text=True,
        )  # fmt: skip
        assert built.returncode == 0, built.stderr
        _assert_each_failed_and_was_served(mirror, "/./Packages", "/./tiny_1_all.deb")


def test_set_up_downloads_debian_packages_again_with_the_settings_of_the_images() -> None:
    settings = _shell("printf '%s' \"$APT_CONFIG\"; apt-config dump")
    assert settings.startswith(str(ROOT / "deployments/images/base/apt.conf"))
    assert 'Acquire::Retries "8";' in settings


@pytest.mark.parametrize(
    "command",
    [
        "retry .venv/bin/python -m pip download --no-deps --no-cache-dir --index-url {index} --dest {into} tiny",
        '"$(find_uv)" pip install --no-cache --default-index {index} --target {into} tiny',
    ],
    ids=["pip", "uv"],
)
def test_python_packages_that_did_not_arrive_are_downloaded_again(
    command: str, python_index: Path, tmp_path: Path
) -> None:
    with flaky_mirror(python_index, *FAILURES) as mirror:
        given = command.format(index=f"http://127.0.0.1:{mirror.port}", into=tmp_path / "into")
        _shell(f"export UV_HTTP_TIMEOUT={TIMEOUT} PIP_DEFAULT_TIMEOUT={TIMEOUT} PIP_CONFIG_FILE=/dev/null\n{given}")
        assert list((tmp_path / "into").glob("tiny*"))
        _assert_each_failed_and_was_served(mirror, "/tiny/", "/tiny/tiny-1-py3-none-any.whl")


def _assert_each_failed_and_was_served(mirror: FlakyMirror, *paths: str) -> None:
    for path in paths:
        assert (mirror.failed[path], mirror.served[path] > 0) == (len(mirror.failures_of(path)), True), (path, mirror)


def _shell(script: str) -> str:
    """Run a script with the functions and settings of set-up, in the project's folder; return its output."""
    sources = "\n".join(f". deployments/setup/{name}" for name in ("lib.sh", "python.sh"))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{sources}\n{script}"], capture_output=True, text=True, cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
