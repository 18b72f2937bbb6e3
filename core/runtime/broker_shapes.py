"""Define the allowed bodies of requests: every known key, and the values it accepts.

The engine ignores the case of keys, so a key in another case is refused like an unknown one.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.runtime.broker_messages import refuse, show_words

# What Docker gives a container anyway unless it is dropped.
ALLOWED_CAPABILITIES = frozenset(
    (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"),
        *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
)
ALLOWED_SECURITY_OPTIONS = frozenset({"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"})
ALLOWED_NETWORK_OPTIONS = frozenset(
    f"com.docker.network.{name}" for name in ("bridge.enable_icc", "bridge.enable_ip_masquerade", "driver.mtu")
)
# The engine resolves these itself; they belong to no project.
BUILT_IN_NETWORKS = frozenset({"", "default", "bridge", "none"})

_SYSCTLS = re.compile(r"net\.[a-z0-9_./-]+|fs\.mqueue\.[a-z_]+|kernel\.(?:msg[a-z]+|sem|shm[a-z_]+)")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_HEX = re.compile(r"[0-9a-f]+")
_BIND_MODES = frozenset(
    {"ro", "rw", "z", "Z", "nocopy", "private", "rprivate", "slave", "rslave", "consistent", "cached", "delegated"}
)
_BIND_OPTIONS = frozenset({"bind", "rbind", "ro", "rw", "private", "rprivate", "nosuid", "nodev", "noexec"})
_TMPFS_OPTION = re.compile(r"(?:size|mode|uid|gid|nr_inodes)=[0-9]+[kKmMgG%]?|nosuid|nodev|noexec|ro|rw")
_CONTAINER = "container:"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountSource:
    """A path of the host that a container is to see."""

    path: str
    writable: bool


IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(slots=True, kw_only=True)
class References:
    """What a body refers to outside itself, collected while it is checked."""

    containers: set[str] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)
    # By the reference: the id the body claims for it, or an empty text.
    networks: dict[str, str] = field(default_factory=dict)
    sources: set[MountSource] = field(default_factory=set)
    subnets: set[IPNetwork] = field(default_factory=set)


Check = Callable[[Any, str, References], None]


def check_object(**fields: Check) -> Check:
    """Accept an object with only these keys; null counts as absent, as for the engine."""

    def check(value: Any, where: str, references: References) -> None:
        if not isinstance(value, dict):
            refuse(f"{where} is not an object")
        for key, inner in value.items():
            place = f"{where}.{key}" if where else key
            if key not in fields:
                refuse(f"setting {show_words(place)} is unknown")
            if inner is not None:
                fields[key](inner, place, references)

    return check


def _empty(value: Any, where: str, _: References) -> None:
    if value not in (False, 0, "", [], {}):
        refuse(f"{where} must not be set")


def _check_of(*kinds: type) -> Check:
    def check(value: Any, where: str, _: References) -> None:
        # In Python True is a number too.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            refuse(f"{where} is of the wrong type")

    return check


def _one_of(*allowed: Any) -> Check:
    def check(value: Any, where: str, _: References) -> None:
        if value not in allowed:
            refuse(f"{where} must not be {show_words(str(value))}")

    return check


def _same_check(check: Check, names: str) -> dict[str, Check]:
    """The same check for each of these names."""
    return dict.fromkeys(names.split(), check)


def _list_of(inner: Check) -> Check:
    def check(value: Any, where: str, references: References) -> None:
        if not isinstance(value, list):
            refuse(f"{where} is not a list")
        for item in value:
            inner(item, where, references)

    return check


def _map_of(inner: Check) -> Check:
    def check(value: Any, where: str, references: References) -> None:
        if not isinstance(value, dict):
            refuse(f"{where} is not an object")
        for item in value.values():
            if item is not None:
                inner(item, where, references)

    return check


def _holds(allowed: Callable[[str], object], why: str = "") -> Check:
    def check(value: Any, where: str, _: References) -> None:
        if not isinstance(value, str) or not allowed(value):
            refuse(f"{where} must not hold {show_words(str(value))}{why}")

    return check


def _texts_by(name_check: Check) -> Check:
    def check(value: Any, where: str, references: References) -> None:
        _texts_by_name(value, where, references)
        for name in value:
            name_check(name, where, references)

    return check


def _require_natural(value: Any, where: str, references: References) -> None:
    _number(value, where, references)
    if value < 0:
        refuse(f"{where} must not be below 0")


def _default_paths(value: Any, where: str, _: References) -> None:
    """Paths the engine hides by default: a list is dropped by `canonical`, so that the defaults hold."""
    if value == []:
        refuse(f"{where} must not be emptied")


def _own_or_container(*allowed: str) -> Check:
    def check(value: Any, where: str, references: References) -> None:
        if isinstance(value, str) and value.startswith(_CONTAINER) and value != _CONTAINER:
            references.containers.add(value.removeprefix(_CONTAINER))
        elif value not in allowed:
            refuse(f"{where} must not be {show_words(str(value))}")

    return check


def _network_mode(value: Any, where: str, references: References) -> None:
    if not isinstance(value, str) or value == "host":
        refuse(f"{where} must not be {show_words(str(value))}")
    if value.startswith(_CONTAINER):
        _own_or_container()(value, where, references)
    elif value not in BUILT_IN_NETWORKS:
        references.networks.setdefault(value, "")


def _volumes_from(value: Any, where: str, references: References) -> None:
    name, _, mode = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not name or mode not in ("", "ro", "rw"):
        refuse(f"{where} must name containers")
    references.containers.add(name)


def _host_path(value: Any, where: str) -> str:
    plain = isinstance(value, str) and value.startswith("/") and not value.startswith("//") and value.isprintable()
    if not plain or posixpath.normpath(value) != value:
        refuse(f"{where}: {show_words(str(value))} is not a plain absolute path")
    return str(value)


def _volume_name(value: Any, where: str, references: References) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        refuse(f"{where}: {show_words(str(value))} is neither a volume's name nor an absolute path")
    references.volumes.add(value)


def _bind(value: Any, where: str, references: References) -> None:
    parts = value.split(":") if isinstance(value, str) else []
    if len(parts) == 1:
        return
    if len(parts) not in (2, 3) or not parts[1].startswith("/"):
        refuse(f"{where}: {show_words(str(value))} is not source:target or source:target:mode")
    modes = set(parts[2].split(",")) if len(parts) == 3 else set()
    if not modes <= _BIND_MODES or {"ro", "rw"} <= modes:
        refuse(f"{where}: mode {show_words(parts[2])} is not allowed")
    if parts[0].startswith("/"):
        references.sources.add(MountSource(path=_host_path(parts[0], where), writable="ro" not in modes))
    else:
        _volume_name(parts[0], where, references)


def _mount(value: Any, where: str, references: References) -> None:
    _MOUNT_FIELDS(value, where, references)
    kind, source, writable = value.get("Type"), value.get("Source") or "", not value.get("ReadOnly")
    options = {"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions"}
    if kind not in options:
        refuse(f"{where}.Type must not be {show_words(str(kind))}")
    if any(value.get(other) for other in options.values() if other != options[kind]):
        refuse(f"{where} has options of another type than {kind}")
    if kind == "bind":
        references.sources.add(MountSource(path=_host_path(source, where), writable=writable))
    elif kind == "volume":
        if source:
            _volume_name(source, where, references)
        driver = (value.get("VolumeOptions") or {}).get("DriverConfig") or {}
        check_driver_options(driver.get("Options") or {}, f"{where}.VolumeOptions.DriverConfig.Options", references)
    elif source:
        refuse(f"{where}.Source must not be set for tmpfs")


def check_driver_options(value: Any, where: str, references: References) -> None:
    """Options of the driver `local`: with them a volume can be any folder or device of the host."""
    _texts_by_name(value, where, references)
    if not value:
        return
    if not set(value) <= {"type", "device", "o"}:
        refuse(f"{where} must not hold more than type, device and o")
    kind, device = value.get("type") or "", value.get("device") or ""
    options = set((value.get("o") or "").split(","))
    if kind == "tmpfs" and all(_TMPFS_OPTION.fullmatch(option) for option in options - {""}):
        return
    if kind not in ("", "none") or not options & {"bind", "rbind"} or not options <= _BIND_OPTIONS:
        refuse(f"{where} must describe a bind (type none, o bind) or a tmpfs")
    references.sources.add(MountSource(path=_host_path(device, where), writable="ro" not in options or "rw" in options))


def _endpoints(value: Any, where: str, references: References) -> None:
    if not isinstance(value, dict):
        refuse(f"{where} is not an object")
    for name, endpoint in value.items():
        if endpoint is not None:
            check_endpoint(endpoint, f"{where}.{show_words(name)}", references)
        claimed = (endpoint or {}).get("NetworkID") or ""
        if name not in BUILT_IN_NETWORKS:
            references.networks[name] = claimed or references.networks.get(name, "")
        elif claimed:
            refuse(f"{where}.{show_words(name)}.NetworkID must not be set")


def _network_name(value: Any, where: str, _: References) -> None:
    # A name of hexadecimal digits alone could pass for the beginning of another network's id.
    plain = isinstance(value, str) and _NAME.fullmatch(value) and not _HEX.fullmatch(value)
    if not plain or value in BUILT_IN_NETWORKS | {"host", "ingress"}:
        refuse(f"{where}: {show_words(str(value))} cannot be a network's name here")


def _subnet(value: Any, where: str, references: References) -> None:
    """A network's addresses; all of them lie inside of its subnet, which the host gets a route to."""
    _IPAM_FIELDS(value, where, references)
    subnet = _addresses(value.get("Subnet") or "", f"{where}.Subnet")
    auxiliary = (value.get("AuxiliaryAddresses") or {}).values()
    for inner in (value.get("Gateway"), value.get("IPRange"), *auxiliary):
        if inner and not _is_within(_addresses(inner, where), subnet):
            refuse(f"{where}: {show_words(inner)} lies outside of the subnet")
    references.subnets.add(subnet)


def _addresses(value: str, where: str) -> IPNetwork:
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        refuse(f"{where}: {show_words(value)} is no address or subnet such as 10.9.0.0/24")


def _is_within(inner: IPNetwork, outer: IPNetwork) -> bool:
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner.subnet_of(outer)


def is_declared_subnet(subnet: IPNetwork, declared: Iterable[IPNetwork]) -> bool:
    """Whether a subnet lies in a declared one."""
    return any(_is_within(subnet, network) for network in declared)


def _subpath(value: Any, where: str, references: References) -> None:
    _text(value, where, references)
    if value.startswith("/") or ".." in value.split("/"):
        refuse(f"{where} must stay below the volume")


_text, _number, _flag = _check_of(str), _check_of(int), _check_of(bool)
_texts, _numbers = _list_of(_text), _list_of(_number)
_words = _check_of(str, list)
_texts_by_name = _map_of(_text)
_empties_by_name = _map_of(_empty)

_HOST_CONFIG = check_object(
    **_same_check(
        _number,
        "BlkioWeight CPUCount CPUPercent CpuCount CpuPercent CpuPeriod CpuQuota CpuShares CpuRealtimePeriod "
        "CpuRealtimeRuntime IOMaximumBandwidth IOMaximumIOps KernelMemory KernelMemoryTCP Memory MemoryReservation "
        "MemorySwap MemorySwappiness NanoCpus PidsLimit",
    ),
    **_same_check(_text, "CpusetCpus CpusetMems"),
    **_same_check(
        _empty,
        "BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps "
        "BlkioDeviceWriteIOps CgroupParent DeviceCgroupRules DeviceRequests Devices OomKillDisable "
        "Annotations Capabilities Cgroup ContainerIDFile Links Privileged StorageOpt UTSMode UsernsMode",
    ),
    Ulimits=_list_of(check_object(Name=_text, Hard=_number, Soft=_number)),
    **_same_check(_flag, "AutoRemove Init PublishAllPorts ReadonlyRootfs"),
    **_same_check(_texts, "CapDrop Dns DnsOptions DnsSearch ExtraHosts GroupAdd"),
    Binds=_list_of(_bind),
    CapAdd=_list_of(_holds(lambda name: name.upper().removeprefix("CAP_") in ALLOWED_CAPABILITIES)),
    # `canonical` drops "host": the engine's default holds, which under the older control groups is the host's.
    CgroupnsMode=_one_of("", "private", "host"),
    ConsoleSize=_numbers,
    IpcMode=_own_or_container("", "none", "private", "shareable"),
    Isolation=_one_of("", "default"),
    LogConfig=check_object(Type=_one_of("", "json-file", "local", "none"), Config=_texts_by_name),
    MaskedPaths=_default_paths,
    Mounts=_list_of(_mount),
    NetworkMode=_network_mode,
    OomScoreAdj=_require_natural,
    PidMode=_own_or_container("", "private"),
    PortBindings=_map_of(_list_of(check_object(HostIp=_text, HostPort=_text))),
    ReadonlyPaths=_default_paths,
    RestartPolicy=check_object(Name=_text, MaximumRetryCount=_number),
    Runtime=_one_of("", "runc", "io.containerd.runc.v2"),
    SecurityOpt=_list_of(_holds(ALLOWED_SECURITY_OPTIONS.__contains__)),
    ShmSize=_number,
    Sysctls=_texts_by(_holds(_SYSCTLS.fullmatch, ", which is not the container's own")),
    Tmpfs=_texts_by_name,
    VolumeDriver=_one_of("", "local"),
    VolumesFrom=_list_of(_volumes_from),
)

check_endpoint = check_object(
    **_same_check(_texts, "Aliases DNSNames Links"),
    **_same_check(_text, "EndpointID Gateway GlobalIPv6Address IPAddress IPv6Gateway MacAddress NetworkID"),
    **_same_check(_number, "GlobalIPv6PrefixLen GwPriority IPPrefixLen"),
    DriverOpts=_empty,
    # A link-local address may be that of a cloud's metadata service.
    IPAMConfig=check_object(IPv4Address=_text, IPv6Address=_text, LinkLocalIPs=_empty),
)

CONTAINER = check_object(
    **_same_check(_flag, "ArgsEscaped AttachStderr AttachStdin AttachStdout NetworkDisabled OpenStdin StdinOnce Tty"),
    **_same_check(_text, "Domainname Hostname Image MacAddress StopSignal User WorkingDir"),
    **_same_check(_texts, "Env OnBuild Shell"),
    **_same_check(_words, "Cmd Entrypoint"),
    **_same_check(_empties_by_name, "ExposedPorts Volumes"),
    Healthcheck=check_object(Test=_texts, **_same_check(_number, "Interval Retries StartInterval StartPeriod Timeout")),
    HostConfig=_HOST_CONFIG,
    Labels=_texts_by_name,
    NetworkingConfig=check_object(EndpointsConfig=_endpoints),
    StopTimeout=_number,
)

EXEC = check_object(
    **_same_check(_flag, "AttachStderr AttachStdin AttachStdout Detach Tty"),
    # Clients repeat there what the address says; the engine does not read it.
    **_same_check(_text, "Container DetachKeys User WorkingDir"),
    **_same_check(_texts, "Cmd Env"),
    ConsoleSize=_numbers,
    Privileged=_empty,
)

PROCESSOR_TIME = check_object(CpuQuota=_number, NanoCpus=_number)
EXEC_START = check_object(Detach=_flag, Tty=_flag, ConsoleSize=_numbers)

NETWORK = check_object(
    **_same_check(_flag, "Attachable CheckDuplicate EnableIPv4 EnableIPv6 Internal"),
    **_same_check(_empty, "ConfigOnly Ingress"),
    ConfigFrom=check_object(Network=_empty),
    Driver=_one_of("", "bridge", "default"),
    IPAM=check_object(Driver=_one_of("", "default"), Options=_empty, Config=_list_of(_subnet)),
    Labels=_texts_by_name,
    Name=_network_name,
    Options=_texts_by(_holds(ALLOWED_NETWORK_OPTIONS.__contains__)),
    Scope=_one_of("", "local"),
)


def _check_connection(value: Any, where: str, references: References) -> None:
    _text(value, where, references)
    references.containers.add(value)


CONNECTION = check_object(Container=_check_connection, EndpointConfig=check_endpoint)
DISCONNECTION = check_object(Container=_check_connection, Force=_flag)

VOLUME = check_object(
    ClusterVolumeSpec=_empty,
    Driver=_one_of("", "local"),
    DriverOpts=check_driver_options,
    Labels=_texts_by_name,
    Name=_check_of(str),
)

_IPAM_FIELDS = check_object(**_same_check(_text, "Gateway IPRange Subnet"), AuxiliaryAddresses=_texts_by_name)

_MOUNT_FIELDS = check_object(
    **_same_check(_text, "Type Source Target"),
    BindOptions=check_object(
        **_same_check(_flag, "CreateMountpoint NonRecursive ReadOnlyForceRecursive ReadOnlyNonRecursive"),
        Propagation=_one_of("", "private", "rprivate", "slave", "rslave"),
    ),
    ClusterOptions=_empty,
    Consistency=_text,
    ReadOnly=_flag,
    TmpfsOptions=check_object(SizeBytes=_number, Mode=_number, Options=_empty),
    VolumeOptions=check_object(
        NoCopy=_flag,
        Labels=_texts_by_name,
        DriverConfig=check_object(Name=_one_of("", "local"), Options=_texts_by_name),
        Subpath=_subpath,
    ),
)


def canonical(body: dict[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    """A checked container's body as the engine gets it: containers by their ids, and no list of hidden paths."""
    host = dict(body.get("HostConfig") or {})
    for key in ("MaskedPaths", "ReadonlyPaths"):
        host.pop(key, None)
    if host.get("CgroupnsMode") == "host":
        del host["CgroupnsMode"]
    for key in ("NetworkMode", "PidMode", "IpcMode"):
        mode = host.get(key) or ""
        if mode.startswith(_CONTAINER):
            host[key] = _CONTAINER + ids[mode.removeprefix(_CONTAINER)]
    if host.get("VolumesFrom"):
        parts = [entry.partition(":") for entry in host["VolumesFrom"]]
        host["VolumesFrom"] = [f"{ids[name]}{colon}{mode}" for name, colon, mode in parts]
    return body | {"HostConfig": host}
