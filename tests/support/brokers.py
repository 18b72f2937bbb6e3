"""A broker in front of an engine, and the requests by which the host would be given away."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson

from adapters.docker.unix_http import UnixConnection
from core.runtime.broker_policy import PROJECT

Body = dict[str, Any]
ENGINE = Path("/var/run/docker.sock")
IMAGE = "debian:trixie-slim"


@contextmanager
def running_broker(
    folder: Path, *projects: str, roots: Sequence[object] = (), engine: Path = ENGINE, **more: str
) -> Iterator[Path]:
    """A broker as a process of its own; its socket."""
    listen = folder / "broker.sock"
    variables = {
        "ROAS_BROKER_PROJECTS": ",".join(projects),
        "ROAS_BROKER_ROOTS": ",".join(map(str, roots)),
        "ROAS_BROKER_LISTEN": str(listen),
        "ROAS_BROKER_ENGINE": str(engine),
    }
    command = [sys.executable, "-m", "adapters.broker.server"]
    process = subprocess.Popen(
        command, env=os.environ | variables | more, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "serving projects" in line:
            break
    else:
        raise AssertionError("".join(said))
    log = (folder / "broker.log").open("w")
    # What it says later must not fill the pipe.
    copying = subprocess.Popen(["cat"], stdin=process.stdout, stdout=log)
    try:
        yield listen
        assert process.poll() is None, "the broker ended"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
        copying.wait()
        log.close()


def ask(
    socket_path: Path, method: str, target: str, body: Body | bytes | None = None, **headers: str
) -> tuple[int, Any]:
    """Status and JSON, or text, of an answer."""
    data = orjson.dumps(body) if isinstance(body, dict) else body
    if data is not None:
        headers = {"Content-Type": "application/json"} | headers
    with closing(UnixConnection(str(socket_path), seconds=30)) as connection:
        connection.request(method, target, body=data, headers=headers)
        answer = connection.getresponse()
        reported = answer.read()
    try:
        return answer.status, orjson.loads(reported)
    except orjson.JSONDecodeError:
        return answer.status, reported.decode(errors="replace")


def container(project: str, **host: Any) -> Body:
    """A container's body as good as Compose's."""
    return {
        "Image": IMAGE,
        "Cmd": ["sleep", "600"],
        "Env": ["PLAIN=1"],
        "Labels": {PROJECT: project},
        "HostConfig": {"NetworkMode": "none", "Privileged": False, **host},
    }


def with_host(**host: Any) -> Callable[[Body], Body]:
    return lambda body: body | {"HostConfig": body["HostConfig"] | host}


def with_top(**top: Any) -> Callable[[Body], Body]:
    return lambda body: body | top


def _mount(source: str, kind: str = "bind", **more: Any) -> dict[str, Any]:
    return {"Type": kind, "Source": source, "Target": "/host", **more}


def _local(**options: str) -> dict[str, Any]:
    return {"DriverConfig": {"Name": "local", "Options": options}}


_BIND = {"type": "none", "o": "bind", "device": "/"}

# Each makes of a good body one that gives the host away, or something of others.
ATTACKS: dict[str, Callable[[Body], Body]] = {
    "privileged": with_host(Privileged=True),
    "privileged with the host's disk": with_host(Privileged=True, Binds=["/:/host"]),
    "bind of the host's disk": with_host(Binds=["/:/host"]),
    "bind read-only": with_host(Binds=["/:/host:ro"]),
    "bind of the engine's socket": with_host(Binds=["/var/run/docker.sock:/s:ro"]),
    "bind that climbs": with_host(Binds=["/srv/../etc:/host:ro"]),
    "mount of the host's disk": with_host(Mounts=[_mount("/")]),
    "mount read-only": with_host(Mounts=[_mount("/etc", ReadOnly=True)]),
    "mount by a volume's options": with_host(Mounts=[_mount("v1", "volume", VolumeOptions=_local(**_BIND))]),
    "mount of a device": with_host(
        Mounts=[_mount("v2", "volume", VolumeOptions=_local(type="ext4", device="/dev/sda1"))]
    ),
    "mount of an unnamed volume by options": with_host(Mounts=[_mount("", "volume", VolumeOptions=_local(**_BIND))]),
    "mount of another driver": with_host(
        Mounts=[_mount("v3", "volume", VolumeOptions={"DriverConfig": {"Name": "x"}})]
    ),
    "mount of an image": with_host(Mounts=[_mount(IMAGE, "image")]),
    "mount that is shared": with_host(Mounts=[_mount("/srv", BindOptions={"Propagation": "rshared"})]),
    "host's processes": with_host(PidMode="host"),
    "host's network": with_host(NetworkMode="host"),
    "host's messages": with_host(IpcMode="host"),
    "host's name": with_host(UTSMode="host"),
    "host's users": with_host(UsernsMode="host"),
    "capability SYS_ADMIN": with_host(CapAdd=["SYS_ADMIN"]),
    "capability in small letters": with_host(CapAdd=["cap_sys_admin"]),
    "all capabilities": with_host(CapAdd=["ALL"]),
    "device": with_host(Devices=[{"PathOnHost": "/dev/sda", "PathInContainer": "/x", "CgroupPermissions": "rwm"}]),
    "device rules": with_host(DeviceCgroupRules=["a *:* rwm"]),
    "device requests": with_host(DeviceRequests=[{"Driver": "nvidia", "Count": -1}]),
    "no seccomp": with_host(SecurityOpt=["seccomp=unconfined"]),
    "no apparmor": with_host(SecurityOpt=["apparmor:unconfined"]),
    "paths shown": with_host(MaskedPaths=[]),
    "paths writable": with_host(ReadonlyPaths=[]),
    "system paths": with_host(SecurityOpt=["systempaths=unconfined"]),
    "host's sysctl": with_host(Sysctls={"kernel.core_pattern": "|/x"}),
    "control group of others": with_host(CgroupParent="/docker/x"),
    "container's control group": with_host(Cgroup="container:x"),
    "other runtime": with_host(Runtime="sysbox-runc"),
    "annotations": with_host(Annotations={"x": "y"}),
    "out of memory last": with_host(OomScoreAdj=-1000),
    "no out of memory": with_host(OomKillDisable=True),
    "log to elsewhere": with_host(LogConfig={"Type": "syslog", "Config": {"syslog-address": "unix:///dev/log"}}),
    "volume driver": with_host(VolumeDriver="x"),
    "links": with_host(Links=["/x:y"]),
    "blkio device": with_host(BlkioDeviceReadBps=[{"Path": "/dev/sda", "Rate": 1}]),
    "storage options": with_host(StorageOpt={"size": "1T"}),
    "unknown setting": with_host(Brandnew=1),
    "small letters": lambda body: body | {"hostconfig": {"privileged": True}},
    "small letters inside": with_host(privileged=True),
    "letters that fold": with_host(PrivilegeD=True),
    "long s that folds": with_host(Bindſ=["/:/host"]),
    "kelvin sign that folds": with_host(NetworKMode="host"),
    "project of others": with_top(Labels={PROJECT: "roas-ops"}),
    "no project": with_top(Labels={}),
    "project in other letters": with_top(Labels={PROJECT.upper(): "roas-test"}),
}  # fmt: skip

# The same as text, where a dictionary cannot say it; {project} is filled in.
RAW_ATTACKS = {
    "setting given twice": '{"Image":"i","Labels":{"com.docker.compose.project":"{project}"},'
    '"HostConfig":{"Privileged":true,"Privileged":false}}',
    "object given twice": '{"Image":"i","Labels":{"com.docker.compose.project":"{project}"},'
    '"HostConfig":{"Privileged":true},"HostConfig":{}}',
    "label given twice": '{"Image":"i","Labels":{"com.docker.compose.project":"x",'
    '"com.docker.compose.project":"{project}"}}',
    "two documents": '{"Image":"i","Labels":{"com.docker.compose.project":"{project}"}} '
    '{"HostConfig":{"Privileged":true}}',
    "escaped key": '{"Image":"i","Labels":{"com.docker.compose.project":"{project}"},'
    '"HostConfig":{"\\u0050rivileged":true}}',
    "no number": '{"Image":"i","Labels":{"com.docker.compose.project":"{project}"},"HostConfig":{"Memory":NaN}}',
    "half a pair": '{"Image":"i","Labels":{"com.docker.compose.project":"{project}"},'
    '"HostConfig":{"Binds":["/\\ud800:/x"]}}',
    "deep": "[" * 100_000,
    "nothing": "",
    "no object": '["x"]',
}


def attacked(name: str, project: str) -> bytes:
    """The body of an attack."""
    if name in RAW_ATTACKS:
        return RAW_ATTACKS[name].replace("{project}", project).encode()
    return orjson.dumps(ATTACKS[name](copy.deepcopy(container(project))))


def folded(key: str) -> str:
    """As the engine's decoder compares keys."""
    return key.replace("\u017f", "s").replace("\u212a", "k").lower()


def forbidden(body: Body) -> list[str]:
    """What a decoder that ignores the case of keys finds in a body that gives the host away."""
    host = {
        folded(key): value for name, part in body.items() if folded(name) == "hostconfig" for key, value in part.items()
    }
    found = [
        key
        for key in (
            *("privileged", "devices", "devicerequests", "devicecgrouprules", "cgroupparent", "utsmode", "usernsmode"),
            *("cgroup", "annotations", "links", "oomkilldisable", "capabilities"),
        )
        if host.get(key)
    ]
    found += [
        key
        for key in ("networkmode", "pidmode", "ipcmode")
        if host.get(key) == "host" or str(host.get(key)).startswith("container:x")
    ]
    found += [str(cap) for cap in host.get("capadd") or () if cap.upper().removeprefix("CAP_") in ("ALL", "SYS_ADMIN")]
    found += [str(option) for option in host.get("securityopt") or () if "unconfined" in option]
    found += [
        bind
        for bind in host.get("binds") or ()
        if bind.startswith("/") and ":" in bind and not bind.startswith("/srv/app")
    ]
    for mount in host.get("mounts") or ():
        fields = {folded(key): value for key, value in mount.items()}
        if fields.get("type") == "bind" and not str(fields.get("source")).startswith("/srv/app"):
            found.append("mount")
        if "device" in json.dumps(mount).lower() and '"/"' in json.dumps(mount):
            found.append("volume options")
    return found
