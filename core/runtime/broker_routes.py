"""What of the engine the broker lets through: its routes, and the words of its decisions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from core.runtime import broker_shapes as shapes
from core.runtime.broker_images import KEPT_TAG
from core.runtime.broker_messages import RequestTarget
from core.runtime.broker_shapes import MountSource, References
from models.containers import RELEASE_IMAGES

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"

IMAGE = r"[A-Za-z0-9][A-Za-z0-9_.:/@-]*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A host path that containers may mount, with everything below it; a writable one only as a whole.

    A container could replace anything in a writable root with a link between check and mount, so nothing below it is
    mounted by itself.
    """

    path: str
    writable: bool = False

    def holds(self, path: str) -> bool:
        """Whether a path is this one or below it."""
        return path == self.path or path.startswith(f"{self.path}/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The declared projects and root paths, names and subnets.

    `networks`, `volumes` and `containers` are names that do not begin with a project's; of networks and volumes also
    those of others that may be used.
    """

    projects: frozenset[str]
    roots: tuple[Root, ...] = ()
    networks: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()
    subnets: tuple[shapes.IPNetwork, ...] = ()


class ObjectKind(StrEnum):
    """A fact that the broker reads from the engine before it judges a request."""

    CONTAINER = "container"
    EXEC = "exec instance"
    IMAGE = "image"
    IMAGE_NAME = "image name"
    NETWORK = "network"
    VOLUME = "volume"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineObject:
    """An object as the engine has it: its full id, its name and the project on its label."""

    identity: str
    name: str = ""
    project: str = ""
    # Of an image.
    tags: tuple[str, ...] = ()
    # Of a volume: what its driver mounts, and the projects whose containers have it, or had it until now.
    # Of an image name: the projects whose containers were made from it.
    options: Mapping[str, str] = field(default_factory=dict)
    users: frozenset[str] = frozenset()
    # Of an image name: the images that it was when containers of declared projects were made from it.
    images: frozenset[str] = frozenset()


class BrokerAnswer(StrEnum):
    """What the broker does with the engine's answer."""

    AS_IT_IS = "as it is"
    LISTING = "listing"
    INSPECTION = "inspection"
    CREATED = "created"
    EXEC_CREATED = "exec created"


Wanted = tuple[ObjectKind, str]

Facts = Mapping[Wanted, EngineObject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One kind of request the engine may be sent."""

    method: str
    path: re.Pattern[str]
    parameters: frozenset[str] = frozenset()
    subject: ObjectKind | None = None
    shape: shapes.Check | None = None
    archive: bool = False
    answer: BrokerAnswer = BrokerAnswer.AS_IT_IS


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedOperation:
    """A request allowed by its own words; the facts in `wanted` decide the rest."""

    route: Route
    target: RequestTarget
    name: str | None = None
    subject: Wanted | None = None
    content: dict[str, Any] | None = None
    archive: bytes = b""
    found: References = field(default_factory=References)
    # The name that the image gets, of an image of an application.
    image_name: str = ""

    @property
    def required_objects(self) -> frozenset[Wanted]:
        """What its settling takes."""
        references, kinds = self.found, (ObjectKind.CONTAINER, ObjectKind.VOLUME, ObjectKind.NETWORK)
        listed = zip(kinds, (references.containers, references.volumes, references.networks), strict=True)
        names = {(kind, name) for kind, some in listed for name in some}
        if self.image_name:
            names.add((ObjectKind.IMAGE_NAME, self.image_name))
        return frozenset(names if self.subject is None else {*names, self.subject})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A request as the engine gets it, in the broker's own spelling."""

    method: str
    target: str
    body: bytes = b""
    content_type: str = ""
    # Paths of the host whose links must lead to declared roots.
    sources: frozenset[MountSource] = frozenset()


def _route(method: str, path: str, parameters: str = "", **more: Any) -> Route:
    filled = path.replace("NAME", f"(?P<name>{_NAME})").replace("IMAGE", f"(?P<name>{IMAGE})")
    return Route(method=method, path=re.compile(filled), parameters=frozenset(parameters.split()), **more)


_CONTAINER_POST = {
    "start": "", "stop": "t signal", "restart": "t signal", "kill": "signal", "wait": "condition",
    "rename": "name", "pause": "", "unpause": "",
}  # fmt: skip

ROUTES = (
    *(_route(method, "/_ping") for method in ("GET", "HEAD")),
    _route("GET", "/(?:version|info)"),
    _route("GET", "/events", "since until filters"),
    _route("GET", "/containers/json", "all limit size filters trunc_cmd since before", answer=BrokerAnswer.LISTING),
    _route("GET", "/containers/NAME/json", "size", answer=BrokerAnswer.INSPECTION),
    _route(
        "GET", "/containers/NAME/logs", "follow stdout stderr since until timestamps tail details",
        subject=ObjectKind.CONTAINER,
    ),
    _route("GET", "/containers/NAME/stats", "stream one-shot", subject=ObjectKind.CONTAINER),
    _route("GET", "/exec/NAME/json", subject=ObjectKind.EXEC),
    _route("GET", "/images/json", "all filters digests shared-size filter manifests only_ids"),
    _route("GET", "/images/IMAGE/json", "manifests platform"),
    _route("GET", "/distribution/IMAGE/json"),
    _route("GET", "/(?:networks|volumes)", "filters"),
    _route("GET", "/networks/NAME", "verbose scope"),
    _route("GET", "/volumes/NAME"),
    _route("POST", "/containers/create", "name platform", shape=shapes.CONTAINER, answer=BrokerAnswer.CREATED),
    *(
        _route("POST", f"/containers/NAME/{action}", parameters, subject=ObjectKind.CONTAINER)
        for action, parameters in _CONTAINER_POST.items()
    ),
    _route(
        "POST", "/containers/NAME/exec",
        subject=ObjectKind.CONTAINER, shape=shapes.EXEC, answer=BrokerAnswer.EXEC_CREATED
    ),
    _route("POST", "/containers/NAME/update", subject=ObjectKind.CONTAINER, shape=shapes.PROCESSOR_TIME),
    _route("POST", "/exec/NAME/start", subject=ObjectKind.EXEC, shape=shapes.EXEC_START),
    _route("POST", "/exec/NAME/resize", "h w", subject=ObjectKind.EXEC),
    # Compose copies secrets and configurations given as variables into a container this way.
    _route(
        "PUT", "/containers/NAME/archive", "path noOverwriteDirNonDir copyUIDGID",
        subject=ObjectKind.CONTAINER, archive=True
    ),
    _route("DELETE", "/containers/NAME", "v force link", subject=ObjectKind.CONTAINER),
    _route("POST", "/networks/create", shape=shapes.NETWORK),
    _route("POST", "/networks/NAME/connect", subject=ObjectKind.NETWORK, shape=shapes.CONNECTION),
    _route("POST", "/networks/NAME/disconnect", subject=ObjectKind.NETWORK, shape=shapes.DISCONNECTION),
    _route("DELETE", "/networks/NAME", subject=ObjectKind.NETWORK),
    _route("POST", "/volumes/create", shape=shapes.VOLUME),
    _route("POST", "/images/create", "fromImage tag platform"),
    # The images of a release get a name of ours, so that no clean-up takes them, and lose it with the release. An image
    # that failed or is too young loses its name to the one that had it before.
    _route("POST", "/images/IMAGE/tag", "repo tag force"),
    _route("DELETE", rf"/images/(?P<name>{RELEASE_IMAGES}:(?:{KEPT_TAG}|[0-9a-f]{{16}}))", "force noprune"),
    _route("DELETE", "/images/(?P<name>sha256:[0-9a-f]{64})", "force noprune", subject=ObjectKind.IMAGE),
)  # fmt: skip
