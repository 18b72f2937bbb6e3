"""Start the same Compose files with Compose itself and with this system, and compare the results.

    python -m tests.e2e.compose.compare FILE_OR_FOLDER... [--hold SECONDS] [--within SECONDS] [--at-once NUMBER]

Each file is an application of its own; both starts use the same project name, one after the other, so that even
the hashes of configurations must be equal. Everything the starts made is removed afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import docker

LABEL = "com.docker.compose"
_LABELS = (
    "service",
    "container-number",
    "config-hash",
    "depends_on",
    "image",
    "oneoff",
    "project",
    "project.working_dir",
    "project.config_files",
    "replace",
)
_SETTLE_SECONDS = 12.0


class ComposeOutcome(StrEnum):
    SAME = "same"
    BOTH_REFUSE = "both refuse"
    COMPOSE_WRONG = "Compose's verdict is wrong"
    DIFFERS = "differs"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How two starts of one file compare."""

    file: Path
    outcome: ComposeOutcome
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedStart:
    """How a start ended, in its own words, and what was there afterwards."""

    ok: bool
    said: str
    there: dict[str, Any] = field(default_factory=dict)


async def compare(
    file: Path,
    *,
    hold_seconds: float = 1.0,
    settle_seconds: int = 3,
    within_seconds: float = 40.0,
    profiles: Sequence[str] = (),
    prepare: bool = True,
) -> Comparison:
    """Start one file with both. The flow's server and the folder of environments must be there.

    `prepare` builds the images first, so that neither start's time goes to it. The containers are looked
    at once it has not changed for `settle_seconds`.
    """
    project = f"roas-same-{secrets.token_hex(4)}"
    compose = ["docker", "compose", "-p", project, "-f", str(file)]
    for profile in profiles:
        compose += ["--profile", profile]
    try:
        if prepare and await _has_builds(compose):
            code, said = await _run([*compose, "build", "--quiet"], within_seconds)
            if code != 0:
                return Comparison(file=file, outcome=ComposeOutcome.SKIPPED, why=f"cannot be built here: {_last(said)}")
        theirs = await _start_theirs(compose, project, within_seconds)
        theirs = replace(theirs, there=await _settled(project, settle_seconds))
        await _down(compose)
        ours = await _start_ours(file, project, profiles, hold_seconds, within_seconds)
        ours = replace(ours, there=await _settled(project, settle_seconds))
        return _judge(file, theirs, ours)
    finally:
        await _down(compose, "--rmi", "local")


async def _has_builds(compose: list[str]) -> bool:
    code, said = await _run([*compose, "config", "--format", "json"], 30, only_output=True)
    return code == 0 and any("build" in service for service in json.loads(said)["services"].values())


async def _start_theirs(compose: list[str], project: str, within_seconds: float) -> ComparedStart:
    wait = ["up", "--detach", "--wait", "--wait-timeout", f"{within_seconds:.0f}", "--quiet-pull"]
    code, said = await _run([*compose, *wait], within_seconds + 20)
    return ComparedStart(ok=code == 0, said=_last(said))


async def _start_ours(
    file: Path, project: str, profiles: Sequence[str], hold_seconds: float, within_seconds: float
) -> ComparedStart:
    from flows.deployment.startup import startup

    environment = {
        "name": project,
        "project": project,
        "compose_files": [str(file.absolute())],
        "profiles": list(profiles),
        "stabilisation_seconds": hold_seconds,
        "start_timeout_seconds": within_seconds,
    }
    Path(os.environ["ROAS_ENVIRONMENTS_DIR"], f"{project}.yaml").write_text(json.dumps(environment))
    state = await startup(project, return_state=True)
    return ComparedStart(ok=state.is_completed(), said=state.message or "")


async def _down(compose: list[str], *more: str) -> None:
    project = compose[3]
    code, _ = await _run([*compose, "down", "-v", "-t", "1", "--remove-orphans", *more], 120)
    if code != 0:
        # Files that Compose refuses do not stop it from removing what carries its labels.
        await _run([*compose[:4], "down", "-v", "-t", "1", "--remove-orphans"], 120)
    assert not any(_there(project).values())


async def _run(command: Sequence[str], within_seconds: float, *, only_output: bool = False) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL if only_output else asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(within_seconds):
            out, _ = await process.communicate()
    except TimeoutError:
        os.killpg(process.pid, 9)
        await process.wait()
        return 124, f"{command[1]} did not end within {within_seconds:.0f} s"
    return process.returncode or 0, out.decode(errors="replace")


async def _settled(project: str, seconds: int) -> dict[str, Any]:
    """The containers once looks a second apart have shown the same for that long."""
    loop = asyncio.get_running_loop()
    until, before, same = loop.time() + _SETTLE_SECONDS, await asyncio.to_thread(_there, project), 0
    while same < seconds and loop.time() < until:
        await asyncio.sleep(1)
        now = await asyncio.to_thread(_there, project)
        before, same = now, same + 1 if now == before else 0
    return before


def _there(project: str) -> dict[str, Any]:
    """Containers, networks and volumes of a project, without what differs between any two starts."""
    client = docker.APIClient("unix:///var/run/docker.sock", version="auto")
    try:
        mine = {"label": [f"{LABEL}.project={project}"]}
        containers = [client.inspect_container(one["Id"]) for one in client.containers(all=True, filters=mine)]
        names = {one["Id"]: _service(one) for one in containers}
        return {
            "containers": {_service(one): _container(one, names) for one in containers},
            "networks": {
                one["Name"]: _network(client.inspect_network(one["Id"])) for one in client.networks(filters=mine)
            },
            "volumes": {
                one["Name"]: (one["Driver"], one["Options"], _labels(one["Labels"]))
                for one in client.volumes(filters=mine)["Volumes"] or ()
                if not re.fullmatch("[0-9a-f]{64}", one["Name"])
            },
        }
    finally:
        client.close()


def _service(container: dict[str, Any]) -> str:
    labels = container["Config"]["Labels"]
    return f"{labels[f'{LABEL}.service']} {labels[f'{LABEL}.container-number']}"


def _container(one: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    state, settings = one["State"], one["NetworkSettings"]
    labels = _labels(one["Config"]["Labels"])
    mode = one["HostConfig"]["NetworkMode"]
    spaces = {key: one["HostConfig"][key] for key in ("IpcMode", "PidMode")}
    shared = {key: names.get(value.removeprefix("container:"), value) for key, value in {"Net": mode, **spaces}.items()}
    if any(value.startswith("container:") for value in (mode, *spaces.values())) or one["HostConfig"]["VolumesFrom"]:
        labels.pop(f"{LABEL}.config-hash")  # it holds the other container's id
    return {
        "name": one["Name"],
        "image": one["Image"],
        "labels": labels,
        "state": "crashes again and again" if one["RestartCount"] else state["Status"],
        "health": (state.get("Health") or {}).get("Status"),
        "exit code": state["ExitCode"],
        "shares": shared,
        "restart": one["HostConfig"]["RestartPolicy"],
        "environment": sorted(one["Config"]["Env"] or ()),
        "command": (one["Config"]["Entrypoint"], one["Config"]["Cmd"]),
        "networks": {
            name: sorted(alias for alias in network["Aliases"] or () if alias != one["Id"][:12])
            for name, network in settings["Networks"].items()
        },
        "ports": sorted(
            f"{target} {binding['HostIp']}:{binding['HostPort']}"
            for target, bindings in (one["HostConfig"]["PortBindings"] or {}).items()
            for binding in bindings or ()
        ),
        "mounts": sorted(
            f"{mount['Type']} {re.sub('^[0-9a-f]{64}$', 'anonymous', mount.get('Name') or mount['Source'])} "
            f"{mount['Destination']} {'rw' if mount['RW'] else 'ro'}"
            for mount in one["Mounts"]
        ),
    }


def _network(one: dict[str, Any]) -> dict[str, Any]:
    return {key: one[key] for key in ("Driver", "Internal", "Options")} | {"labels": _labels(one["Labels"])}


def _labels(labels: dict[str, str] | None) -> dict[str, str]:
    compose = {f"{LABEL}.{name}" for name in _LABELS} | {f"{LABEL}.network", f"{LABEL}.volume"}
    kept = {name: value for name, value in (labels or {}).items() if not name.startswith(LABEL) or name in compose}
    if f"{LABEL}.depends_on" in kept:
        # Compose writes its parts in any order.
        kept[f"{LABEL}.depends_on"] = ",".join(sorted(kept[f"{LABEL}.depends_on"].split(",")))
    return kept


def _judge(file: Path, theirs: ComparedStart, ours: ComparedStart) -> Comparison:
    if theirs.ok != ours.ok:
        wrong = _wrong(theirs, ours)
        if wrong is not None:
            return Comparison(file=file, outcome=ComposeOutcome.COMPOSE_WRONG, why=wrong)
        why = f"Compose {'passes' if theirs.ok else 'fails'} ({theirs.said}), we say: {ours.said}"
        return Comparison(file=file, outcome=ComposeOutcome.DIFFERS, why=why)
    if not theirs.ok:
        # A start of ours that failed is undone, so there is nothing to compare.
        return Comparison(file=file, outcome=ComposeOutcome.BOTH_REFUSE, why=f"{theirs.said} / {ours.said}")
    found = list(differences(theirs.there, ours.there))
    return Comparison(file=file, outcome=ComposeOutcome.DIFFERS if found else ComposeOutcome.SAME, why="; ".join(found))


def _wrong(theirs: ComparedStart, ours: ComparedStart) -> str | None:
    """Why Compose's verdict does not fit what it left behind."""
    containers = theirs.there["containers"]
    ill = {
        name: one["state"] if one["exit code"] == 0 else f"{one['state']}, exit code {one['exit code']}"
        for name, one in containers.items()
        if one["state"] not in ("running", "exited") or one["exit code"] != 0
    }
    if theirs.ok and ill:
        return f"it passes what crashes: {ill}; we say: {ours.said}"
    if theirs.ok:
        gone = [name for name, one in containers.items() if one["state"] == "exited"]
        return f"it passes what ended: {gone}; we say: {ours.said}" if gone else None
    done = sorted(name for name, one in containers.items() if (one["state"], one["exit code"]) == ("exited", 0))
    if done and not ill:
        rest = list(differences(theirs.there, ours.there))
        return None if rest else f"it fails for finished jobs: {done}; all else is the same"
    return None


def differences(theirs: Any, ours: Any, where: str = "") -> Any:
    """Each place where two values differ, as a sentence."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted({*theirs, *ours}, key=str):
            if key not in theirs or key not in ours:
                yield f"{where}{key}: only {'Compose' if key in theirs else 'we'} have it"
            else:
                yield from differences(theirs[key], ours[key], f"{where}{key}: ")
    elif theirs != ours:
        yield f"{where}Compose {theirs}, we {ours}"


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "")[-200:]


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += sorted(one for one in path.rglob("*") if one.suffix in (".yml", ".yaml")) if path.is_dir() else [path]
    return found


async def _all(files: Sequence[Path], hold_seconds: float, within_seconds: float, at_once: int) -> list[Comparison]:
    turns = asyncio.Semaphore(at_once)

    async def one(file: Path) -> Comparison:
        async with turns:
            try:
                found = await compare(file, hold_seconds=hold_seconds, within_seconds=within_seconds)
            except Exception as error:  # noqa: BLE001 - one file that cannot be compared must not end the others
                found = Comparison(file=file, outcome=ComposeOutcome.DIFFERS, why=f"not compared: {error!r}")
            print(f"{found.outcome:28}{found.file}  {found.why}", flush=True)
            return found

    return await asyncio.gather(*(one(file) for file in files))


def main() -> int:
    """Compare the given files; the exit code is the number of those that differ, at most 100."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--hold", type=float, default=3.0, help="seconds a service must hold (ours)")
    parser.add_argument("--within", type=float, default=40.0, help="seconds for each start")
    parser.add_argument("--at-once", type=int, default=1)
    asked = parser.parse_args()
    from tests.support.kept_images import forget_kept_images
    from tests.support.prefect_server import temporary_server

    with tempfile.TemporaryDirectory(prefix="roas-same-") as folder:
        os.environ["ROAS_DATA_DIR"] = str(Path(folder, "data"))
        os.environ["ROAS_ENVIRONMENTS_DIR"] = folder
        with temporary_server():
            found = asyncio.run(_all(_files(asked.paths), asked.hold, asked.within, asked.at_once))
        forget_kept_images(Path(folder))
    counts = Counter(one.outcome for one in found)
    print(", ".join(f"{outcome}: {counts[outcome]}" for outcome in ComposeOutcome))
    return min(100, counts[ComposeOutcome.DIFFERS])


if __name__ == "__main__":
    sys.exit(main())
