from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.runtime.broker_images import whole_name
from core.runtime.broker_policy import PROJECT, examine, make_policy, reduced_container, reduced_listing, settle
from core.runtime.broker_routes import EngineObject, ObjectKind, Outgoing
from models.failures import BadInputError, RequestRefusedError
from tests.support.brokers import ATTACKS, RAW_ATTACKS, Body, attacked, container, forbidden, with_host

OWN = "roas-test"
POLICY = make_policy(
    [OWN], ["/srv/app", "/srv/app/data:rw"], ["shared"], ["common"], ["database"], ["10.9.0.0/16", "fd00:9::/32"]
)
ID, OTHER = "a" * 64, "b" * 64
TAG = "0123abcd-0123456789abcdef"
KEPT = f"roas-release:{TAG}"
CREATE = f"/v1.45/containers/create?name={OWN}-web-1"


def pass_through(
    method: str, target: str, body: bytes = b"", facts: dict[tuple[ObjectKind, str], EngineObject] | None = None
) -> Outgoing:
    return settle(examine(method, target, body, POLICY), facts or {}, POLICY)


def created(body: Body, facts: dict[tuple[ObjectKind, str], EngineObject] | None = None) -> Body:
    out: Body = orjson.loads(pass_through("POST", CREATE, orjson.dumps(body), facts).body)
    return out


@pytest.mark.parametrize("attack", [*ATTACKS, *RAW_ATTACKS])
def test_a_container_that_gives_the_host_away_is_refused(attack: str) -> None:
    body = attacked(attack, OWN)
    with pytest.raises(RequestRefusedError):
        pass_through("POST", CREATE, body)


def test_a_container_as_compose_makes_it_passes() -> None:
    body = container(
        OWN,
        Binds=["/srv/app/conf:/conf:ro", f"{OWN}_data:/data", "/anonymous"],
        Mounts=[{"Type": "bind", "Source": "/srv/app/data", "Target": "/d"}, {"Type": "tmpfs", "Target": "/t"}],
        CapAdd=["CHOWN", "CAP_NET_BIND_SERVICE"],
        CapDrop=["ALL"],
        SecurityOpt=["no-new-privileges:true"],
        LogConfig={"Type": "local", "Config": {"max-size": "10m"}},
        Sysctls={"net.core.somaxconn": "1024"},
        RestartPolicy={"Name": "unless-stopped", "MaximumRetryCount": 0},
        Devices=None,
        Links=[],
    )
    assert created(body) == body


@pytest.mark.parametrize(
    ("mode", "allowed"),
    [
        *((mode, True) for mode in ("ro", "rw", "z", "Z", "nocopy", "consistent", "cached", "delegated")),
        *((mode, True) for mode in ("private", "rprivate", "slave", "rslave", "ro,z,rslave")),
        # The host's mounts would follow the container's.
        *((mode, False) for mode in ("shared", "rshared", "ro,rshared")),
        *((mode, False) for mode in ("ro,rw", "U", "exec", "RO", "ro ", "")),
    ],
)
def test_a_bind_has_modes_that_leave_the_host_as_it_is(mode: str, allowed: bool) -> None:
    body = container(OWN, Binds=[f"/srv/app/data:/x:{mode}", f"{OWN}_data:/y:{mode}"])
    if allowed:
        assert created(body) == body
    else:
        with pytest.raises(RequestRefusedError, match=r"mode .* is not allowed"):
            created(body)


def test_what_the_engine_says_of_a_container_makes_it_again() -> None:
    """An inspected container has every field, with the defaults in them."""
    defaults = {
        "MaskedPaths": ["/proc/kcore"],
        "ReadonlyPaths": ["/proc/sys"],
        "CgroupnsMode": "host",
        "Runtime": "runc",
    }
    assert created(container(OWN, **defaults)) == container(OWN, Runtime="runc")


def test_other_containers_are_referred_to_by_their_ids() -> None:
    fact = {(ObjectKind.CONTAINER, name): EngineObject(identity=ID, project=OWN) for name in ("web", "db")}
    body = container(
        OWN, NetworkMode="container:web", PidMode="container:web", IpcMode="container:db", VolumesFrom=["db:ro"]
    )
    host = created(body, fact)["HostConfig"]
    assert host["NetworkMode"] == host["PidMode"] == host["IpcMode"] == f"container:{ID}"
    assert host["VolumesFrom"] == [f"{ID}:ro"]


@pytest.mark.parametrize(
    "host",
    [
        {"NetworkMode": "container:web"},
        {"PidMode": "container:web"},
        {"IpcMode": "container:web"},
        {"VolumesFrom": ["web"]},
        {"VolumesFrom": ["web:ro"]},
    ],
)
@pytest.mark.parametrize("fact", [None, EngineObject(identity=ID, project="roas-ops"), EngineObject(identity=ID)])
def test_containers_of_others_lend_nothing(host: Body, fact: EngineObject | None) -> None:
    with pytest.raises(RequestRefusedError, match="web"):
        created(container(OWN, **host), {} if fact is None else {(ObjectKind.CONTAINER, "web"): fact})


@pytest.mark.parametrize(
    ("bind", "allowed"),
    [
        ("/srv/app:/x:ro", True),
        ("/srv/app/conf/a.yaml:/x:ro", True),
        ("/srv/app/conf:/x", False),
        ("/srv/application:/x:ro", False),
        ("/srv:/x:ro", False),
        ("/srv/app/../../etc:/x:ro", False),
        ("/srv/app/./x:/x:ro", False),
        ("//srv/app:/x:ro", False),
        ("/srv/app/:/x:ro", False),
        ("/srv/app/data:/x", True),
        ("/srv/app/data:/x:ro", True),
        ("/srv/app/data/below:/x:ro", False),
        ("/srv/app:/x:ro,shared", False),
        ("/srv/app:/x:ro,rw", False),
        ("/srv/app:/x:ro:y", False),
        ("../etc:/x", False),
    ],
)
def test_binds_lie_below_declared_roots(bind: str, allowed: bool) -> None:
    source, target, *mode = bind.split(":")
    mount = {"Type": "bind", "Source": source, "Target": target, "ReadOnly": mode == ["ro"]}
    option = {"type": "none", "device": source, "o": ",".join(["bind", *mode])}
    volume = {"Name": f"{OWN}_v", "Labels": {PROJECT: OWN}, "DriverOpts": option}
    for method, target, body in (
        ("POST", CREATE, container(OWN, Binds=[bind])),
        ("POST", CREATE, container(OWN, Mounts=[mount])),
        ("POST", CREATE, container(OWN, Mounts=[{"Type": "volume", "Source": f"{OWN}_v", "Target": "/x",
                                                "VolumeOptions": {"DriverConfig": {"Options": option}}}])),
        ("POST", "/volumes/create", volume),
    ):  # fmt: skip
        if "Mounts" in str(body) and mode not in ([], ["ro"]):
            continue
        if allowed:
            pass_through(method, target, orjson.dumps(body))
        else:
            with pytest.raises(RequestRefusedError):
                pass_through(method, target, orjson.dumps(body))


@pytest.mark.parametrize(
    "bad", ["/", "/etc", "/var", "/run", "/var/run/docker.sock", "/proc/1", "relative", "/a/../b", "/a/"]
)
def test_no_root_gives_the_machine_away(bad: str) -> None:
    with pytest.raises(BadInputError, match="Root"):
        make_policy([OWN], [bad])


@pytest.mark.parametrize("roots", [["/a:rw", "/a/b"], ["/a:rw", "/a"], ["/a:rw", "/a/b:rw"]])
def test_nothing_is_declared_below_a_writable_root(roots: list[str]) -> None:
    with pytest.raises(BadInputError, match="writable"):
        make_policy([OWN], roots)


def test_the_control_plane_is_no_application() -> None:
    with pytest.raises(BadInputError, match="roas-ops"):
        make_policy(["roas-ops"], [])


@pytest.mark.parametrize(
    ("fact", "allowed"),
    [
        (None, False),
        (EngineObject(identity="v", name="v", project=OWN), True),
        (EngineObject(identity="v", name="v", project="roas-ops"), False),
        (EngineObject(identity="v", name="v"), False),
        (EngineObject(identity="v", name="v", users=frozenset({OWN})), True),
        (EngineObject(identity="v", name="v", users=frozenset({OWN, ""})), False),
        (EngineObject(identity="v", name="common"), True),
        (
            EngineObject(identity="v", name="v", project=OWN, options={"type": "none", "o": "bind", "device": "/"}),
            False,
        ),
        (
            EngineObject(
                identity="v", name="v", project=OWN, options={"type": "none", "o": "bind", "device": "/srv/app/data"}
            ),
            True,
        ),
    ],
)
@pytest.mark.parametrize("host", [{"Binds": ["v:/x"]}, {"Mounts": [{"Type": "volume", "Source": "v", "Target": "/x"}]}])
def test_volumes_of_others_are_not_mounted(host: Body, fact: EngineObject | None, allowed: bool) -> None:
    facts = {} if fact is None else {(ObjectKind.VOLUME, "v"): fact}
    if allowed:
        created(container(OWN, **host), facts)
    else:
        with pytest.raises(RequestRefusedError):
            created(container(OWN, **host), facts)


@pytest.mark.parametrize(
    ("fact", "claimed", "allowed"),
    [
        (EngineObject(identity=ID, name="net", project=OWN), "", True),
        (EngineObject(identity=ID, name="net", project=OWN), ID, True),
        (EngineObject(identity=ID, name="net", project=OWN), OTHER, False),
        (EngineObject(identity=ID, name="net", project="roas-ops"), "", False),
        (EngineObject(identity=ID, name="other", project=OWN), "", False),
        (None, "", False),
    ],
)
def test_networks_of_others_are_not_joined(fact: EngineObject | None, claimed: str, allowed: bool) -> None:
    body = container(OWN, NetworkMode="net") | {
        "NetworkingConfig": {"EndpointsConfig": {"net": {"NetworkID": claimed}}}
    }
    facts = {} if fact is None else {(ObjectKind.NETWORK, "net"): fact}
    if allowed:
        assert created(body, facts) == body
    else:
        with pytest.raises(RequestRefusedError, match="net"):
            created(body, facts)


def test_a_declared_network_of_others_is_joined() -> None:
    fact = EngineObject(identity=ID, name="shared", project="elsewhere")
    assert created(container(OWN, NetworkMode="shared"), {(ObjectKind.NETWORK, "shared"): fact})


@pytest.mark.parametrize(
    "change",
    [
        {"Driver": "macvlan", "Options": {"parent": "eth0"}},
        {"Driver": "host"},
        {"Options": {"com.docker.network.bridge.name": "docker0"}},
        {"Options": {"com.docker.network.bridge.host_binding_ipv4": "0.0.0.0"}},
        {"Name": "deadbeef"},
        {"Name": "host"},
        {"Labels": {PROJECT: "roas-ops"}},
        {"Labels": {}},
        {"ConfigFrom": {"Network": "x"}},
        {"Ingress": True},
        {"IPAM": {"Driver": "plugin"}},
        *(
            {"IPAM": {"Config": [one]}}
            for one in (
                {"Subnet": "169.254.169.0/24"},
                {"Subnet": "8.8.8.0/24"},
                {"Subnet": "0.0.0.0/0"},
                {"Subnet": "10.0.0.0/8"},
                {"Subnet": "10.8.0.0/24"},
                {"Subnet": "10.9.0.0/24", "Gateway": "10.8.0.1"},
                {"Subnet": "10.9.0.0/24", "Gateway": "169.254.169.254"},
                {"Subnet": "10.9.0.0/24", "IPRange": "10.0.0.0/8"},
                {"Subnet": "10.9.0.0/24", "AuxiliaryAddresses": {"x": "10.9.1.1"}},
                {"Subnet": "::ffff:10.9.0.0/120"},
                {"Subnet": "fd20:ce::/64"},
                {"Gateway": "10.9.0.1"},
                {"Subnet": "10.9.0.0/255.255.255.0/24"},
                {"Subnet": "x"},
            )
        ),
    ],
)
def test_networks_are_bridges_of_declared_projects(change: Body) -> None:
    good = {
        "Name": f"{OWN}_net",
        "Driver": "bridge",
        "Labels": {PROJECT: OWN},
        "Options": None,
        "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}]},
    }
    pass_through("POST", "/networks/create", orjson.dumps(good))
    with pytest.raises(RequestRefusedError):
        pass_through("POST", "/networks/create", orjson.dumps(good | change))


@pytest.mark.parametrize(
    "options",
    [
        {"type": "none", "o": "bind", "device": "/"},
        {"type": "none", "o": "rbind", "device": "/etc"},
        {"o": "bind", "device": "/"},
        {"type": "ext4", "device": "/dev/sda1"},
        {"type": "overlay", "o": "lowerdir=/,upperdir=/x,workdir=/y", "device": "overlay"},
        {"type": "nfs", "o": "addr=1.2.3.4", "device": ":/"},
        {"type": "tmpfs", "o": "bind", "device": "/"},
        {"Type": "none"},
    ],
)
def test_a_volume_is_no_way_to_the_host(options: Body) -> None:
    with pytest.raises(RequestRefusedError):
        pass_through(
            "POST",
            "/volumes/create",
            orjson.dumps({"Name": f"{OWN}_v", "Labels": {PROJECT: OWN}, "DriverOpts": options}),
        )


def test_a_volume_in_memory_is_made() -> None:
    body = {
        "Name": f"{OWN}_v",
        "Labels": {PROJECT: OWN},
        "DriverOpts": {"type": "tmpfs", "device": "tmpfs", "o": "size=64m,nosuid"},
    }
    pass_through("POST", "/volumes/create", orjson.dumps(body))


@pytest.mark.parametrize("subnet", ["169.254.0.0/24", "8.8.8.0/24", "100.100.0.0/16", "fd20:ce::/64", "fd00::/8", "x"])
def test_only_private_subnets_are_declared(subnet: str) -> None:
    with pytest.raises(BadInputError, match="Subnet"):
        make_policy([OWN], [], subnets=[subnet])


def test_a_container_takes_no_address_of_the_link() -> None:
    endpoint = {"IPAMConfig": {"LinkLocalIPs": ["169.254.169.254"]}}
    body = container(OWN, NetworkMode="shared") | {"NetworkingConfig": {"EndpointsConfig": {"shared": endpoint}}}
    with pytest.raises(RequestRefusedError, match="LinkLocalIPs"):
        created(body, {(ObjectKind.NETWORK, "shared"): EngineObject(identity=ID, name="shared")})


NAMES = [
    (f"{OWN}_data", True),
    (f"{OWN}-web-1", True),
    (OWN, True),
    ("other_data", False),
    (f"{OWN}ing_data", False),
    # Of another declared project, and of the control plane.
    (f"{OWN}-prod_data", False),
    ("roas-ops_data", False),
    ("roas", False),
]


# Compose gives such names to those of a project that need not be declared here.
OF_LONGER_PROJECT = [(f"{OWN}-stage_data", False), (f"{OWN}-data", True), (f"{OWN}_stage-1_data", True)]


@pytest.mark.parametrize(
    ("name", "allowed"), [*NAMES, *OF_LONGER_PROJECT, ("", True), ("common", True), ("database", False)]
)
@pytest.mark.parametrize("way", ["create", "Binds", "Mounts"])
def test_a_volume_has_no_name_that_another_project_would_take(name: str, allowed: bool, way: str) -> None:
    policy = make_policy([OWN, f"{OWN}-prod"], [], volumes=["common"])
    host = {"Binds": [f"{name or '/y'}:/x"]} if way == "Binds" else {"Mounts": [{"Type": "volume", "Source": name}]}
    target, body = (
        ("/volumes/create", {"Name": name, "Labels": {PROJECT: OWN}})
        if way == "create"
        else (CREATE, container(OWN, **(host if name else {})))
    )
    asked = ("POST", target, orjson.dumps(body), policy)
    if allowed:
        settle(examine(*asked), {}, policy)
    else:
        with pytest.raises(RequestRefusedError, match="does not begin with its project's"):
            settle(examine(*asked), {}, policy)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [*NAMES, ("database", True), ("common", False), (f"0123456789ab_{OWN}-web-1", True), ("0123456789ab_x", False)],
)
def test_a_container_has_no_name_that_another_project_would_take(name: str, allowed: bool) -> None:
    policy = make_policy([OWN, f"{OWN}-prod"], [], containers=["database"])
    facts = {(ObjectKind.CONTAINER, "web"): EngineObject(identity=ID, project=OWN)}
    for target, body in (
        (f"/containers/create?name={name}", orjson.dumps(container(OWN))),
        (f"/containers/web/rename?name={name}", b""),
    ):
        if allowed:
            settle(examine("POST", target, body, policy), facts, policy)
        else:
            with pytest.raises(RequestRefusedError, match="ROAS_BROKER_CONTAINERS"):
                settle(examine("POST", target, body, policy), facts, policy)


@pytest.mark.parametrize(("name", "allowed"), [*NAMES, *OF_LONGER_PROJECT, ("shared", True)])
def test_a_network_has_no_name_that_another_project_would_take(name: str, allowed: bool) -> None:
    policy = make_policy([OWN, f"{OWN}-prod"], [], networks=["shared"])
    body = orjson.dumps({"Name": name, "Labels": {PROJECT: OWN}})
    if allowed:
        examine("POST", "/networks/create", body, policy)
    else:
        with pytest.raises(RequestRefusedError, match="ROAS_BROKER_NETWORKS"):
            examine("POST", "/networks/create", body, policy)


def test_an_anonymous_volume_that_is_gone_is_made_again() -> None:
    assert created(container(OWN, Binds=[f"{ID}:/x"]))


ACTIONS = ("start", "stop", "restart", "kill", "wait", "pause", "unpause")
ON_CONTAINERS = [
    ("GET", "/containers/web/logs?stdout=1"),
    ("GET", "/containers/web/stats?stream=0"),
    *(("POST", f"/containers/web/{action}") for action in ACTIONS),
    ("POST", f"/containers/web/rename?name={OWN}-y"),
    ("PUT", "/containers/web/archive?path=/"),
    ("DELETE", "/containers/web?force=1"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target"), ON_CONTAINERS)
def test_containers_of_others_are_left_alone(method: str, target: str) -> None:
    key = (ObjectKind.CONTAINER, "web")
    out = pass_through(method, target, facts={key: EngineObject(identity=ID, project=OWN)})
    assert out.target == target.replace("web", ID).replace("path=/", "path=%2F")
    for foreign in (EngineObject(identity=ID, project="roas-ops"), EngineObject(identity=ID)):
        with pytest.raises(RequestRefusedError, match="ROAS_BROKER_PROJECTS"):
            pass_through(method, target, facts={key: foreign})


@pytest.mark.parametrize(
    ("change", "allowed"),
    [({}, True), ({"Privileged": True}, False), ({"privileged": True}, False), ({"User": "root"}, True)],
)
def test_no_command_gets_more_rights_than_its_container(change: Body, allowed: bool) -> None:
    body = orjson.dumps({"Cmd": ["id"], "Privileged": False} | change)
    facts = {(ObjectKind.CONTAINER, "web"): EngineObject(identity=ID, project=OWN)}
    if allowed:
        assert pass_through("POST", "/containers/web/exec", body, facts).body
    else:
        with pytest.raises(RequestRefusedError, match="rivileged"):
            pass_through("POST", "/containers/web/exec", body, facts)


@pytest.mark.parametrize(
    ("change", "allowed"),
    [({}, True), ({"NanoCpus": 10**7}, True), ({"Memory": 0}, False), ({"RestartPolicy": {}}, False)],
)
def test_only_the_processor_time_of_a_container_may_be_limited_later(change: Body, allowed: bool) -> None:
    body = orjson.dumps({"CpuQuota": -1} | change)
    for project in (OWN, "roas-ops"):
        facts = {(ObjectKind.CONTAINER, "web"): EngineObject(identity=ID, project=project)}
        if allowed and project == OWN:
            assert pass_through("POST", "/containers/web/update", body, facts).body
        else:
            with pytest.raises(RequestRefusedError):
                pass_through("POST", "/containers/web/update", body, facts)


def test_a_command_begun_elsewhere_is_not_started() -> None:
    with pytest.raises(RequestRefusedError):
        pass_through(
            "POST", "/exec/e/start", b"{}", {(ObjectKind.EXEC, "e"): EngineObject(identity="e", project="roas-ops")}
        )


def test_only_own_containers_are_put_into_own_networks() -> None:
    body, net = orjson.dumps({"Container": "web"}), (ObjectKind.NETWORK, "net")
    own = EngineObject(identity=ID, project=OWN)
    facts = {net: EngineObject(identity=OTHER, name="net", project=OWN), (ObjectKind.CONTAINER, "web"): own}
    for action in ("connect", "disconnect"):
        out = pass_through("POST", f"/networks/net/{action}", body, facts)
        assert (out.target, json.loads(out.body)) == (f"/networks/{OTHER}/{action}", {"Container": ID})
        for foreign in (
            {net: EngineObject(identity=OTHER, name="net", project="x")},
            {(ObjectKind.CONTAINER, "web"): EngineObject(identity=ID)},
        ):
            with pytest.raises(RequestRefusedError):
                pass_through("POST", f"/networks/net/{action}", body, facts | foreign)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/build"),
        ("POST", "/images/load"),
        ("POST", "/commit?container=x"),
        ("POST", "/containers/x/attach"),
        ("POST", "/containers/x/update"),
        ("GET", "/containers/x/export"),
        ("GET", "/containers/x/top"),
        ("GET", "/containers/x/archive?path=/etc/shadow"),
        ("GET", "/system/df"),
        ("DELETE", "/volumes/data"),
        ("DELETE", "/images/roas/redis:local"),
        ("DELETE", "/images/roas-release:ab"),
        ("DELETE", f"/images/{KEPT}?force=1"),
        ("DELETE", f"/images/{KEPT}?force=True"),
        ("DELETE", f"/images/{KEPT}?force=0&force=1"),
        ("POST", "/images/x/tag?repo=debian&tag=trixie-slim"),
        ("POST", f"/images/x/tag?repo=debian&repo=roas-release&tag={TAG}"),
        ("POST", "/images/x/tag?repo=roas-release&tag=0123456789abcdef"),
        ("POST", "/images/x/tag?repo=roas-release&tag=latest"),
        ("POST", "/images/create?fromSrc=-&repo=debian"),
        ("POST", "/images/create?fromImage=x&fromSrc=-"),
        ("POST", "/images/create?fromImage="),
        ("POST", "/images/create"),
        ("POST", "/containers/prune"),
        ("POST", "/images/prune"),
        ("POST", "/networks/prune"),
        ("POST", "/volumes/prune"),
        ("POST", "/build/prune"),
        ("POST", "/swarm/init"),
        ("GET", "/secrets"),
        ("GET", "/plugins"),
        ("POST", "/session"),
        ("POST", "/containers/json"),
        ("post", "/containers/create"),
        ("GET", "/containers/x%2f..%2fy/json"),
        ("POST", "/containers/../build"),
        ("GET", "/v1.45/../info"),
        ("GET", "//info"),
        ("GET", "/v1.45//info"),
        ("GET", "/info/"),
        ("GET", "/./info"),
        ("GET", "http://x/info"),
        ("GET", "*"),
        ("GET", "/v1.24/info"),
        ("GET", "/v1.45/v1.45/info"),
        ("GET", "/info#x"),
        ("GET", "/containers/json?filters=x"),
        ("GET", "/containers/json?all=1;limit=2"),
        ("GET", "/containers/json?filters=%7B%22label%22%3A%7B%22a%22%3Afalse%7D%7D"),
        ("POST", "/containers/x/start?checkpoint=y"),
    ],
)
def test_nothing_else_reaches_the_engine(method: str, target: str) -> None:
    with pytest.raises(RequestRefusedError):
        examine(method, target, b"", POLICY)


def test_a_form_cannot_say_what_the_address_may_not() -> None:
    """The engine reads parameters from a form's body as well."""
    with pytest.raises(RequestRefusedError, match="body"):
        examine("POST", "/images/create?fromImage=x", b"fromSrc=-", POLICY)


def test_only_images_without_a_name_are_removed_by_id() -> None:
    image = f"sha256:{ID}"
    key = (ObjectKind.IMAGE, image)
    assert (
        pass_through(
            "DELETE", f"/images/{image}?force=False", facts={key: EngineObject(identity=image, project=OWN)}
        ).target
        == f"/images/{image}"
    )
    for fact in (
        EngineObject(identity=image),
        EngineObject(identity=image, project="x"),
        EngineObject(identity=image, project=OWN, tags=("a:b",)),
    ):
        with pytest.raises(RequestRefusedError):
            pass_through("DELETE", f"/images/{image}", facts={key: fact})


def test_what_is_good_is_written_anew() -> None:
    assert pass_through("GET", "/v1.45/images/a%40sha256:00/json").target == "/v1.45/images/a@sha256:00/json"
    asked = urlencode({"all": "1", "filters": '{"label": ["a"]}'})
    assert (
        pass_through("GET", f"/containers/json?{asked}").target
        == "/containers/json?all=1&filters=%7B%22label%22%3A%7B%22a%22%3Atrue%7D%7D"
    )
    assert (
        pass_through("POST", f"/images/x/tag?tag={TAG}&repo=roas-release&force=0").target
        == f"/images/x/tag?tag={TAG}&repo=roas-release"
    )


IMAGE_ID = f"sha256:{ID}"
NAMED = (ObjectKind.IMAGE_NAME, "docker.io/shop/web:1.2")


def give_name(repository: str, tag: str, fact: EngineObject | None, image: str = IMAGE_ID) -> Outgoing:
    query = urlencode({"repo": repository, "tag": tag})
    name = whole_name(f"{repository}:{tag}")
    facts = {} if fact is None else {(ObjectKind.IMAGE_NAME, name): fact}
    return pass_through("POST", f"/images/{image}/tag?{query}", facts=facts)


def had(*images: str, users: tuple[str, ...] = (OWN,)) -> EngineObject:
    return EngineObject(identity=NAMED[1], images=frozenset(images), users=frozenset(users))


def test_an_image_gets_the_name_back_that_it_had_for_a_container_of_a_declared_project() -> None:
    out = give_name("shop/web", "1.2", had(IMAGE_ID, f"sha256:{OTHER}"))
    assert out.target == f"/images/{IMAGE_ID}/tag?repo=docker.io%2Fshop%2Fweb&tag=1.2"
    assert examine("POST", f"/images/{IMAGE_ID}/tag?repo=shop%2Fweb&tag=1.2", b"", POLICY).required_objects == {NAMED}


@pytest.mark.parametrize(
    "fact",
    [
        None,
        had(),
        had(f"sha256:{OTHER}"),
        had(IMAGE_ID, users=(OWN, "other")),
        had(IMAGE_ID, users=("roas-ops",)),
        had(IMAGE_ID, users=("",)),
    ],
    ids=["unknown", "never", "another image", "others too", "the control plane", "no project"],
)
def test_an_image_gets_no_name_that_it_never_had_or_that_others_use(fact: EngineObject | None) -> None:
    with pytest.raises(RequestRefusedError):
        give_name("shop/web", "1.2", fact)


@pytest.mark.parametrize(
    "query",
    [
        "repo=roas-release&tag=latest",
        "repo=docker.io/library/roas-release&tag=0123abcd-0123456789abcdef",
        "repo=docker.io/roas-release&tag=0123abcd-0123456789abcdef",
        "repo=index.docker.io/roas-release&tag=1",
        "repo=shop/web",
        "repo=shop/web&tag=",
        "tag=1.2",
        "repo=&tag=1.2",
        "repo=shop/web:1.2&tag=1.3",
        "repo=shop/web%40sha256:" + "a" * 64 + "&tag=1",
        "repo=sha256&tag=" + "a" * 64,
        "repo=Shop&tag=1",
        "repo=shop//web&tag=1",
        "repo=../web&tag=1",
        "repo=shop/web&tag=1%0a2",
        "repo=shop/web&tag=1.2&tag=1.3",
        "repo=shop/web&tag=1.2&force=1",
    ],
)
def test_a_name_in_another_spelling_is_refused_by_its_own_words(query: str) -> None:
    with pytest.raises(RequestRefusedError):
        examine("POST", f"/images/{IMAGE_ID}/tag?{query}", b"", POLICY)


@pytest.mark.parametrize("image", ["shop/web:1.2", "a" * 64, "sha256:" + "a" * 12, "aaaaaaaaaaaa"])
def test_an_image_that_gets_a_name_is_given_by_its_whole_id(image: str) -> None:
    with pytest.raises(RequestRefusedError, match="whole id"):
        give_name("shop/web", "1.2", had(image), image)


def test_two_spellings_of_a_name_are_one() -> None:
    names = {
        whole_name(one)
        for one in ("redis", "redis:latest", "library/redis", "docker.io/redis", "index.docker.io/library/redis:latest")
    }
    assert names == {"docker.io/library/redis:latest"}
    assert whole_name("localhost/web") == "localhost/web:latest"
    assert whole_name("reg.example:5000/a/b:1") == "reg.example:5000/a/b:1"


@pytest.mark.parametrize(
    "reference", ["beef", "a" * 64, "sha256:beef", "sha256:" + "a" * 64, "web@sha256:" + "a" * 64, ""]
)
def test_what_the_engine_may_take_for_an_id_is_no_name(reference: str) -> None:
    # Else a container made from the beginning of an id would let that id have this name.
    with pytest.raises(ValueError, match=r"."):
        whole_name(reference)


def events(filters: Any) -> Any:
    out = pass_through("GET", "/events?" + urlencode({"filters": json.dumps(filters)})).target
    return re.search("exec", out), out


def test_commands_of_others_are_not_reported_in_events() -> None:
    assert events({"label": [f"{PROJECT}={OWN}"], "event": ["exec_create"]})[0]
    assert not events({"event": ["exec_create"]})[0]
    assert "health_status" in events({})[1]
    assert "none" in events({"event": {"exec_start": True}})[1]


FOREIGN = {
    "Id": ID,
    "Name": "/web",
    "Args": ["--password=geheim"],
    "State": {"Status": "running", "Health": {"Log": [{"Output": "geheim"}]}},
    "Config": {
        "Image": "i",
        "Env": ["PASSWORD=geheim"],
        "Cmd": ["geheim"],
        "Labels": {PROJECT: "x", "secret": "geheim"},
    },
    "HostConfig": {"Binds": ["/geheim:/x"]},
    "Mounts": [{"Source": "/geheim"}],
    "NetworkSettings": {"Ports": {"80/tcp": None}},
}


def test_of_others_one_learns_who_they_are_and_no_more() -> None:
    reported = reduced_container(FOREIGN)
    assert "geheim" not in json.dumps(reported)
    assert (reported["Name"], reported["Config"]["Labels"]) == ("/web", {PROJECT: "x"})
    own = {"Id": OTHER, "Command": "mine", "Labels": {PROJECT: OWN, "l": "m"}, "Mounts": []}
    foreign = {
        "Id": ID,
        "Names": ["/web"],
        "Command": "geheim",
        "Labels": {PROJECT: "x", "s": "geheim"},
        "Mounts": ["geheim"],
        "Ports": [{"PublicPort": 1}],
    }
    listed = reduced_listing([own, foreign], POLICY)
    assert listed[0] == own
    assert listed[1] == {"Id": ID, "Names": ["/web"], "Ports": [{"PublicPort": 1}], "Labels": {PROJECT: "x"}}


WORDS = ["", "/", "host", "container:x", "ALL", "/:/x", "none", "v"]
NAMES = ["Type", "Source", "Target", "Options", "type", "o", "device", "x"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 2**40) | st.sampled_from(WORDS) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
KEYS = sorted({key for attack in ATTACKS.values() for key in attack(container(OWN))["HostConfig"]})


@given(
    host=st.dictionaries(
        st.sampled_from(KEYS) | st.sampled_from(KEYS).map(str.lower) | st.sampled_from(KEYS).map(str.upper),
        JSON,
        max_size=4,
    ),
    attack=st.none() | st.sampled_from(sorted(ATTACKS)),
    undone=st.lists(st.sampled_from(KEYS), max_size=3),
)
@settings(max_examples=600, deadline=None)
def test_whatever_passes_gives_nothing_away(host: Body, attack: str | None, undone: list[str]) -> None:
    body = container(OWN) if attack is None else ATTACKS[attack](container(OWN))
    body = with_host(**host)(body)
    body["HostConfig"] = {key: value for key, value in body["HostConfig"].items() if key not in undone}
    try:
        out = created(body)
    except RequestRefusedError:
        return
    assert forbidden(out) == []
    assert out["Labels"][PROJECT] == OWN
