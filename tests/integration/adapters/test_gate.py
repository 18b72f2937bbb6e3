"""What a gate runs: expressions in their process, commands, scanners; also with hostile input.

Trivy and Grype are stand-ins here: programs that print reports in the shapes of the real ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from adapters.config.environments import load_environment
from adapters.gate.commands import judge_commands
from adapters.gate.expression_syntax import syntax_mistake
from adapters.gate.expressions import judge_expressions
from adapters.gate.programs import variables_of_programs
from adapters.gate.scanners import ScanCache, find_scanner
from adapters.host import programs
from core.deployment.scan import read_trivy
from models.environments import Environment
from models.failures import EnvironmentFileError, ScanFailedError
from models.gates import GatePolicy, ImageFinding, ImageScan, ImageScanResult, PolicyAnswer, UpdateGate

IMAGE = "sha256:" + "a1" * 32
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "now": "2026-11-27T12:00:00Z",
    "environment": {"name": "shop", "project": "shop"},
    "services": [
        {
            "name": "web",
            "action": "recreate",
            "privileged": False,
            "user": "",
            "new": {"age_days": 0.5, "size_mib": 5.0, "labels": {"team": "shop"}},
            "running": None,
        },
        {"name": "db", "action": "keep", "privileged": True, "user": "postgres", "running": None},
    ],
}
ALL = "[1,2,3,4,5,6,7,8,9,10]"
SLOW = ALL + "".join(f".map({name}, {ALL}" for name in "abcdefgh") + ")" * 8 + " == []"


async def ask(expression: str, seconds: float = 10) -> PolicyAnswer:
    policy = GatePolicy(name="p", expression=expression, timeout_seconds=seconds)
    return (await judge_expressions([policy], DOCUMENT))["p"]


EXPRESSIONS = {
    "services.all(s, s.name != 'web' || s.new.age_days < 1.0)": True,
    "services.exists(s, s.privileged)": True,
    "!service.privileged": True,
    "service.user != ''": False,
    "service.running == null": True,
    "service.new.labels.team == 'shop' && 'team' in service.new.labels": True,
    "service.name.matches('^(a+)+$')": False,
    "timestamp(now) - timestamp('2026-11-26T12:00:00Z') == duration('24h')": True,
    "services.all(s, has(s.new))": False,
    "environment.name == 'shop'": True,
}


async def test_expressions_are_judged() -> None:
    policies = [GatePolicy(name=f"p{place}", expression=one) for place, one in enumerate(EXPRESSIONS)]
    found = await judge_expressions(policies, DOCUMENT)
    assert {policy.expression: found[policy.name].met for policy in policies} == EXPRESSIONS


async def test_an_expression_on_service_names_those_that_do_not_meet_it() -> None:
    assert await ask("service.user != ''") == PolicyAnswer(met=False, services=("web",))


NOT_JUDGED = {
    "1": "it gives int, not true or false",
    "'yes'": "it gives string, not true or false",
    "null": "it gives null, not true or false",
    "services": "it gives list, not true or false",
    "foo == 1": "there is no foo",
    "service.nwe == 1": "there is no field nwe",
    "services[9].name == ''": "list index out of range",
    "1 / 0 == 1": "divide by zero",
    "service.new.age_days < duration('1h')": "does not fit: double, duration",
    "service.name.matches('(')": "match error",
    "!" * 3000 + "true": "nested too deeply",
}


async def test_what_cannot_be_judged_is_explained_and_costs_no_other() -> None:
    policies = [GatePolicy(name=f"p{place}", expression=one) for place, one in enumerate(NOT_JUDGED)]
    answers = await judge_expressions([*policies, GatePolicy(name="good", expression="true")], DOCUMENT)
    assert answers["good"].met is True
    for policy, reason in zip(policies, NOT_JUDGED.values(), strict=True):
        found = answers[policy.name]
        assert (policy.expression, found.met) == (policy.expression, None)
        assert reason in found.reason
        assert len(found.reason) < 400
        assert "Activation" not in found.reason


async def test_an_expression_that_takes_too_long_costs_no_other() -> None:
    policies = [
        GatePolicy(name="slow", expression=SLOW, timeout_seconds=0.5),
        GatePolicy(name="quick", expression="true"),
    ]
    found = await judge_expressions(policies, DOCUMENT)
    assert found["slow"].reason == "it took longer than 0.5 s"
    assert found["quick"].met


async def test_an_expression_that_takes_all_memory_costs_no_other() -> None:
    text = "'" + "x" * 1000 + "'"
    greedy = f"[{text}].map(a, [a+a+a+a+a+a+a+a+a+a]).map(b, [b[0]+b[0]+b[0]+b[0]+b[0]+b[0]+b[0]+b[0]+b[0]+b[0]])"
    for name in "cdef":
        doubled = "+".join([f"{name}[0]"] * 10)
        greedy += f".map({name}, [{doubled}])"
    policies = [
        GatePolicy(name="greedy", expression=greedy + " == []", timeout_seconds=300),
        GatePolicy(name="small", expression="true", timeout_seconds=300),
    ]
    found = await judge_expressions(policies, DOCUMENT)
    assert found["greedy"].met is None
    assert "memory" in found["greedy"].reason
    assert found["small"].met


@pytest.mark.parametrize(
    ("expression", "mistake"),
    [
        ("service.user != ''", None),
        ("a +", "line 1, column 3 is not CEL: '+'"),
        ("a\n&& b ||", "line 2, column 6 is not CEL: '||'"),
        ("'open", 'line 1, column 1 is not CEL: "\'open"'),
        ("a b", "line 1, column 3 is not CEL: 'b'"),
    ],
)
def test_a_mistake_in_the_syntax_has_its_position(expression: str, mistake: str | None) -> None:
    assert syntax_mistake(expression) == mistake


def test_a_file_with_such_a_mistake_names_line_and_field(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {web: {image: web}}\n")
    (tmp_path / "shop.yaml").write_text(
        "compose_files: [compose.yaml]\nproject: shop\ngate:\n  policies:\n"
        "    - {name: good, expression: 'true'}\n    - name: bad\n      expression: service.user !=\n"
    )
    with pytest.raises(EnvironmentFileError) as raised:
        load_environment("shop", tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}/shop.yaml:7: gate.policies.1.expression: line 1, column 14 is not CEL: '!='."
    )


def test_a_file_without_expressions_pays_for_none(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("compose_files: [compose.yaml]\nproject: shop\ngate: {policies: []}\n")
    code = (
        "import pathlib, sys; from adapters.config.environments import load_environment;"
        f"load_environment('shop', pathlib.Path({str(tmp_path)!r})); print('celpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


async def run(*words: str, seconds: float = 10) -> PolicyAnswer:
    policy = GatePolicy(name="p", command=words, timeout_seconds=seconds)
    return (await judge_commands([policy], DOCUMENT, Path("/tmp")))["p"]


async def test_a_command_gets_the_document_and_its_output_is_the_reason() -> None:
    script = "import json, sys; found = json.load(sys.stdin); print(found['services'][0]['name']); sys.exit(4)"
    assert await run("python3", "-c", script) == PolicyAnswer(met=False, reason="web")
    assert (await run("true")).met is True
    assert await run("sh", "-c", "echo on the other output >&2; exit 1") == PolicyAnswer(
        met=False, reason="on the other output"
    )


async def test_a_command_that_cannot_be_run_is_named() -> None:
    missing, no_program = await run("no-such-program"), await run("/etc/hostname")
    assert (missing.met, missing.reason) == (None, "no-such-program cannot be run: No such file or directory")
    assert (no_program.met, no_program.reason) == (None, "/etc/hostname cannot be run: Permission denied")


async def test_a_command_that_hangs_ends_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, moved = tmp_path / "pid", tmp_path / "moved"
    now = 0.0

    def clock() -> float:
        """Stand still until the child is there, which a busy machine may start long after the command's time."""
        nonlocal now
        now += 10 if moved.exists() else 0
        return now

    monkeypatch.setattr(programs, "time", SimpleNamespace(monotonic=clock))
    found = await run("sh", "-c", f"sleep 600 & echo $! > {file}; mv {file} {moved}; wait", seconds=0.1)
    assert (found.met, found.reason) == (None, "sh did not end within 0.1 s")
    assert await asyncio.to_thread(_ends, int(moved.read_text()))


def _ends(process: int) -> bool:
    """Wait until a process has ended: one that was killed ends when the kernel gets to it."""
    try:
        file = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([file], [], [], 60)
    os.close(file)
    return bool(ended)


async def test_a_command_that_floods_its_output_is_bounded() -> None:
    found = await run("sh", "-c", "head -c 50000000 /dev/zero | tr '\\0' x; exit 1")
    assert found.met is False
    assert len(found.reason) == 400
    assert (await run("yes", seconds=0.1)).reason == "yes did not end within 0.1 s"


async def test_a_child_in_another_session_keeps_nothing_waiting(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    try:
        # Waiting for it would take longer than a test may.
        found = await run("sh", "-c", f"setsid sleep 400 & echo $! > {file}; echo done", seconds=250)
        assert found == PolicyAnswer(met=True, reason="done")
    finally:
        os.kill(int(file.read_text()), signal.SIGKILL)


async def test_a_command_that_reads_nothing_ends_well() -> None:
    policy = GatePolicy(name="p", command=("true",))
    large = DOCUMENT | {"services": [{"name": "x" * 5_000_000}]}
    assert (await judge_commands([policy], large, Path("/tmp")))["p"].met is True


async def test_a_cancelled_command_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    os.mkfifo(file)
    policy = GatePolicy(name="p", command=("sh", "-c", f"echo $$ > {file}; exec sleep 600"), timeout_seconds=300)
    task = asyncio.create_task(judge_commands([policy], DOCUMENT, tmp_path))
    pid = int(await asyncio.to_thread(file.read_text))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not Path(f"/proc/{pid}").exists()


async def test_a_command_gets_no_other_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2hunter2")
    policy = GatePolicy(name="p", command=("sh", "-c", 'test -n "$PATH" && test -z "$SHOP_PASSWORD"'))
    assert (await judge_commands([policy], DOCUMENT, Path("/tmp")))["p"].met is True
    assert "SHOP_PASSWORD" not in variables_of_programs("TRIVY_")


def scanner_program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def program_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def environment(folder: Path) -> Environment:
    return Environment(name="shop", project="shop", compose_files=(folder / "compose.yaml",))


TRIVY = {
    "SchemaVersion": 2,
    "Results": [
        {
            "Target": "web (debian 13.1)",
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-2026-1",
                    "PkgName": "openssl",
                    "InstalledVersion": "3.0.1",
                    "Severity": "HIGH",
                }
            ],
        }
    ],
}


async def test_trivy_is_asked_for_the_image_of_this_engine(program_folder: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    scanner_program(program_folder, "trivy", f"echo $DOCKER_HOST $* > {asked}\ncat <<'E'\n{json.dumps(TRIVY)}\nE")
    scanner = find_scanner(ImageScan(timeout_seconds=60), environment(tmp_path))
    assert scanner is not None

    found = await scanner.scan(IMAGE)

    assert found.findings == (
        ImageFinding(finding_id="CVE-2026-1", package="openssl", version="3.0.1", severity="high"),
    )
    assert asked.read_text().split() == [
        *("unix:///var/run/docker.sock", "image", "--quiet", "--format", "json", "--scanners", "vuln"),
        *("--image-src", "docker", "--exit-code", "0", "--timeout", "60s", "a1a1a1a1a1a1"),
    ]


def test_a_report_that_trivy_wrote_is_read() -> None:
    """Trivy 0.70 of debian:trixie-slim, with a database of made-up vulnerabilities; one of its packages is kept."""
    report = json.loads(Path(__file__).with_name("trivy.json").read_text())

    found = [(one.finding_id, one.package, one.version, one.severity, one.fixed_in) for one in read_trivy(report)]

    assert found == [
        ("CVE-2026-0001", "bash", "5.2.37-2+b10", "high", "99.0-1"),
        ("CVE-2026-0002", "libc-bin", "2.41-12+deb13u5", "low", ""),
        ("CVE-2026-0002", "libc6", "2.41-12+deb13u5", "low", ""),
    ]


async def test_grype_is_used_where_it_is_wanted(program_folder: Path, tmp_path: Path) -> None:
    found = {
        "vulnerability": {"id": "CVE-2026-1", "severity": "High", "fix": {"versions": ["3.0.2"]}},
        "artifact": {"name": "openssl", "version": "3.0.1"},
    }
    report = json.dumps({"matches": [found]})
    # Its own configuration may ask it to fail; the report is whole.
    scanner_program(program_folder, "grype", f"cat <<'E'\n{report}\nE\nexit 2")
    scanner = find_scanner(ImageScan(program="grype"), environment(tmp_path))
    assert scanner is not None
    assert (await scanner.scan(IMAGE)).findings[0].fixed_in == "3.0.2"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        # As trivy 0.59 says it on a machine without a way to its database.
        (
            "printf 'NOW\\tFATAL\\tFatal error\\tinit error: DB error: failed to download\\n\\t* Get\\n' >&2; exit 1",
            "trivy ended with exit code 1: init error: DB error: failed to download * Get",
        ),
        ("echo '[0000] ERROR failed to load vulnerability db: none' >&2; exit 1", "code 1: failed to load vulner"),
        ("echo one >&2; echo two >&2; exit 1", "code 1: two"),
        ("exit 3", "trivy ended with exit code 3: it said nothing"),
        ("echo no JSON", "printed no report that can be read"),
        ("echo '[]'", "printed no report that can be read: it is no report of trivy"),
        ("head -c 1000000 /dev/zero | tr '\\0' '['", "printed no report that can be read"),
        ("sleep 60", "trivy did not end within 1 s"),
    ],
)
async def test_a_scanner_that_fails_is_said(program_folder: Path, tmp_path: Path, script: str, reason: str) -> None:
    scanner_program(program_folder, "trivy", script)
    scanner = find_scanner(ImageScan(program="trivy", timeout_seconds=1), environment(tmp_path))
    assert scanner is not None
    with pytest.raises(ScanFailedError, match=r".*") as raised:
        await scanner.scan(IMAGE)
    assert reason in raised.value.what


def test_a_scanner_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ScanFailedError, match="neither trivy nor grype is installed"):
        find_scanner(ImageScan(), environment(tmp_path))
    with pytest.raises(ScanFailedError, match="grype is not installed"):
        find_scanner(ImageScan(program="grype"), environment(tmp_path))
    assert find_scanner(ImageScan(program="none"), environment(tmp_path)) is None


def test_findings_are_kept_by_image_and_scanner(tmp_path: Path) -> None:
    cache = ScanCache(tmp_path / "data")
    finding = ImageFinding(finding_id="CVE-2026-1", package="openssl", severity="high")
    result = ImageScanResult(image_id=IMAGE, program="trivy", scanned_at=datetime.now(UTC), findings=(finding,))
    cache.put(result)

    assert cache.get("trivy", IMAGE) == result
    assert cache.get("grype", IMAGE) is None
    (file,) = (tmp_path / "data" / "scans").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    for damaged in ("", "{", "[]", '{"findings": [{"x": 1}], "scanned_at": "2026-11-27"}', '{"findings": 3}'):
        file.write_text(damaged)
        assert cache.get("trivy", IMAGE) is None


GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "check-before-an-update.md"


def policies_of_the_guide() -> dict[str, GatePolicy]:
    block = re.search(r"^(gate:\n  policies:.*?)```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert block is not None
    gate = UpdateGate.model_validate(yaml.safe_load(block[1])["gate"])
    return {policy.name: policy for policy in gate.policies}


GOOD: dict[str, Any] = DOCUMENT["services"][0] | {
    "image": "registry.example.com/shop/web:2",
    "user": "1000",
    "capabilities": {"added": ["NET_BIND_SERVICE"], "dropped": ["ALL"]},
    "mounts": [{"kind": "volume", "source": "data", "target": "/data", "read_only": False}],
    "new": {"age_days": 2.0},
}
SOCKET = {"kind": "bind", "source": "/var/run/docker.sock", "target": "/var/run/docker.sock", "read_only": True}


BAD = [
    ("not-root", {"user": ""}),
    ("not-root", {"user": "root"}),
    ("not-root", {"user": "0:0"}),
    ("no-privileges", {"privileged": True}),
    ("no-privileges", {"capabilities": {"added": ["SYS_ADMIN"], "dropped": []}}),
    ("settled", {"new": {"age_days": 0.4}}),
    ("own-registry", {"image": "docker.io/shop/web:2"}),
    ("no-engine-socket", {"mounts": [SOCKET]}),
]
"""What each policy of the guide refuses."""


async def test_the_policies_of_the_guide_do_what_they_say() -> None:
    policies = policies_of_the_guide()
    bad = [GOOD | fields | {"name": f"{name}-{place}"} for place, (name, fields) in enumerate(BAD)]
    found = await judge_expressions(list(policies.values()), DOCUMENT | {"services": [GOOD, *bad]})
    assert {name: set(answer.services) for name, answer in found.items()} == {
        policy: {f"{name}-{place}" for place, (name, _) in enumerate(BAD) if name == policy} for policy in policies
    }
    assert all(answer.met is False for answer in found.values())

    found = await judge_expressions(list(policies.values()), DOCUMENT | {"services": [GOOD]})
    assert all(answer.met is True for answer in found.values())
