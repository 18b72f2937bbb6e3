from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

ROOT = Path(__file__).parents[3]
SETUP = ROOT / "deployments/setup"


def shell(script: str, *, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a line of bash with the functions of set-up."""
    sources = "\n".join(f". {SETUP / name}" for name in ("lib.sh", "engine.sh", "python.sh"))
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{sources}\n{script}"], capture_output=True, text=True, cwd=cwd
    )


def pins(name: str) -> dict[str, set[str]]:
    """Package -> its pinned versions (with markers there may be several)."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([a-z0-9._-]+)(?:\[.*?\])?==(\S+)", (ROOT / name).read_text(), re.MULTILINE):
        found.setdefault(package, set()).add(version)
    return found


@pytest.mark.engine
def test_a_machine_that_is_set_up_misses_nothing() -> None:
    assert shell("engine_missing; python_missing").stdout == ""


def test_users_get_no_tools_for_the_code_and_who_has_them_keeps_them(tmp_path: Path) -> None:
    chosen = f"VENV={tmp_path}; _pins"
    assert shell(chosen).stdout.split() == ["requirements.txt", "requirements-build.txt"]
    assert shell(f"WITH_TOOLS=yes; {chosen}").stdout.split() == ["requirements-dev.txt"]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pytest").touch(0o755)
    assert shell(chosen).stdout.split() == ["requirements-dev.txt"]


@pytest.mark.engine
def test_images_that_are_current_are_kept() -> None:
    subprocess.run([SETUP / "images.sh"], check=True, capture_output=True)
    again = subprocess.run([SETUP / "images.sh"], capture_output=True, text=True)
    assert "Images: built 0" in again.stdout


@pytest.mark.parametrize(
    ("found", "enough"),
    [("2.26.1-4", True), ("v2.20.0", True), ("2.20", True), ("1.29.2-3", False), ("2.3.3", False), ("", False)],
)
def test_a_version_is_compared_by_its_numbers(found: str, enough: bool) -> None:
    assert (shell(f"at_least 2.20 '{found}'").returncode == 0) is enough


def test_a_failed_step_says_what_to_try() -> None:
    failed = shell("die 'the engine is gone' 'Start it.'")
    assert failed.returncode == 1
    assert failed.stderr == "error: the engine is gone\n       Start it.\n"


def test_a_quiet_command_is_received_when_it_fails() -> None:
    assert shell("quietly sh -c 'echo words; exit 0'").stdout == ""
    failed = shell("quietly sh -c 'echo words; exit 3'")
    assert failed.returncode == 1
    assert failed.stderr == "words\n"


def test_a_changed_file_changes_the_hash_and_a_compiled_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = shell("content_hash .", cwd=tmp_path).stdout
    (tmp_path / "a.pyc").write_text("compiled")
    assert shell("content_hash .", cwd=tmp_path).stdout == before
    (tmp_path / "a").write_text("2")
    assert shell("content_hash .", cwd=tmp_path).stdout != before


def test_passwords_are_made_once_kept_from_others_and_never_shown(tmp_path: Path) -> None:
    script = f"ROOT={tmp_path}; . {SETUP / 'secrets.sh'}; make_secrets; make_secrets"
    first = shell(script)
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    folder = tmp_path / ".secrets"
    written = {file.name: file.read_text() for file in folder.iterdir()}
    assert set(written) == {
        "sample_redis_password",
        "postgres_password",
        "messaging_password",
        "cache_password",
        "grafana_password",
        "stores_password",
        "prefect_auth",
        "prefect_encryption_key",
    }
    Fernet(written.pop("prefect_encryption_key"))
    assert all(re.fullmatch(r"(roas:)?[0-9a-f]{48}", value) for value in written.values())
    assert len(set(written.values())) == len(written)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # An older installation gets what it lacks and keeps what it has.
    (folder / "cache_password").unlink()
    shell(script)
    again = {file.name: file.read_text() for file in folder.iterdir() if file.name != "prefect_encryption_key"}
    assert again.pop("cache_password") != written.pop("cache_password")
    assert again == written


def test_every_requirement_is_pinned_by_hash_and_no_index_is_named() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-build.txt"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "--index-url" not in text
        for requirement in re.split(r"\n(?=\S)", text.strip()):
            assert "--hash=sha256:" in requirement, requirement.splitlines()[0]


def test_tests_run_on_the_versions_that_images_run_on() -> None:
    for_tests = pins("requirements-dev.txt")
    for package, versions in (pins("requirements.txt") | pins("requirements-build.txt")).items():
        assert for_tests[package] == versions


RESULT = """<testsuites><testsuite>
<testcase classname="t" name="passes"/>
<testcase classname="t" name="known"><skipped type="pytest.xfail"/></testcase>
{more}
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("more", "line", "code"),
    [
        ("", "tests: 2 passed, 0 failed, 0 skipped", 0),
        (
            '<testcase classname="t" name="hides"><skipped type="pytest.skip"/></testcase>',
            "tests: 2 passed, 0 failed, 1 skipped",
            1,
        ),
        (
            '<testcase classname="t" name="breaks"><failure message="assert 1&#10; == 2"/></testcase>',
            "failed: t::breaks: assert 1 == 2\ntests: 2 passed, 1 failed, 0 skipped",
            1,
        ),
    ],
)
def test_a_skipped_or_failed_test_fails_the_count(tmp_path: Path, more: str, line: str, code: int) -> None:
    result = tmp_path / "result.xml"
    result.write_text(RESULT.format(more=more))
    counted = subprocess.run([sys.executable, SETUP / "count_tests.py", result], capture_output=True, text=True)
    assert counted.stdout.endswith(f"\n{line}\n")
    assert counted.returncode == code


@pytest.mark.parametrize("digest", ["latest", "sha256:1234", f"sha256:{'0' * 64} x", f"md5:{'0' * 64}"])
def test_an_invalid_digest_of_the_base_image_is_refused(digest: str, tmp_path: Path) -> None:
    named = tmp_path / "base.digest"
    named.write_text(digest)
    source = f"BASE_DIGEST_FILE={named}; . {SETUP / 'base_image.sh'}; wanted_digest"
    assert "the digest of the base image is not valid" in shell(source).stderr
    assert "the digest of the base image is not valid" in shell(f"export ROAS_BASE_DIGEST='{digest}'; {source}").stderr


def test_the_digest_that_is_named_comes_before_the_one_that_was_pulled_first(tmp_path: Path) -> None:
    first, named = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
    source = f"BASE_DIGEST_FILE={tmp_path / 'base.digest'}; . {SETUP / 'base_image.sh'}; wanted_digest"
    assert shell(source).stdout == "\n"
    (tmp_path / "base.digest").write_text(first)
    assert shell(source).stdout.strip() == first
    assert shell(f"export ROAS_BASE_DIGEST={named}; {source}").stdout.strip() == named


def test_the_sbom_names_every_pinned_package_with_its_hashes(tmp_path: Path) -> None:
    subprocess.run([SETUP / "sbom.sh", tmp_path, "--pinned-only"], check=True, capture_output=True)
    subprocess.run(
        [sys.executable, SETUP / "validate_sbom.py", tmp_path / "python.cdx.json"], check=True, capture_output=True
    )
    document = json.loads((tmp_path / "python.cdx.json").read_text())
    named = {(component["name"], component["version"]) for component in document["components"]}
    assert named == {(name, version) for name, versions in pins("requirements.txt").items() for version in versions}
    assert document["metadata"]["component"]["name"] == "roas-ops"
    assert document["metadata"]["component"]["licenses"][0]["license"]["id"] == "Apache-2.0"


@pytest.mark.engine
@pytest.mark.campaign
def test_the_sbom_of_an_image_names_its_debian_packages(tmp_path: Path) -> None:
    script = f". {SETUP / 'sbom.sh'} {tmp_path} --pinned-only; debian_packages roas/redis"
    done = shell(script)
    assert done.returncode == 0, done.stderr
    subprocess.run(
        [sys.executable, SETUP / "validate_sbom.py", tmp_path / "image-redis.cdx.json"], check=True, capture_output=True
    )
    document = json.loads((tmp_path / "image-redis.cdx.json").read_text())
    assert {"redis-server", "libc6"} <= {component["name"] for component in document["components"]}


def test_the_wheel_holds_the_licence_it_declares(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], check=True, cwd=ROOT,
        capture_output=True,
    )  # fmt: skip
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        (licence,) = [name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
        assert b"Version 2.0, January 2004" in wheel.read(licence)


@contextmanager
def advisories(about: str) -> Iterator[str]:
    """A source that speaks OSV's API and knows one advisory, about one package."""

    class FileSource(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = [
                {
                    "id": "PYSEC-2026-1",
                    "modified": "2026-01-01T00:00:00Z",
                    "summary": "a hole",
                    "affected": [{"package": {"ecosystem": "PyPI", "name": about}, "versions": [asked["version"]]}],
                }
            ]
            body = json.dumps({"vulns": known} if asked["package"]["name"] == about else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), FileSource)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def audit(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SETUP / "audit.py", "60"],
        capture_output=True,
        text=True,
        env=os.environ | {"ROAS_ADVISORIES_URL": source},
    )


def test_a_known_vulnerability_of_a_pinned_package_fails_the_gate() -> None:
    with advisories("httpx") as source:
        done = audit(source)
    (version,) = pins("requirements.txt")["httpx"]
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].endswith("packages, 1 KNOWN")
    assert done.stdout.splitlines()[1] == f"  httpx {version}: PYSEC-2026-1, fixed in no version"


def test_packages_without_advisories_pass_and_are_counted() -> None:
    with advisories("nothing-of-this-name") as source:
        done = audit(source)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"advisories: checked \d{2,} packages, none known\n", done.stdout)


def test_a_source_that_does_not_answer_is_reported_and_not_passed_over_in_silence() -> None:
    done = audit("http://127.0.0.1:1/v1/query")
    assert done.returncode == 0
    assert done.stdout.startswith("advisories: NOT CHECKED")
