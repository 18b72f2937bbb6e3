"""Images of an engine: facts, names, and those that are left over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from docker.errors import NotFound

from adapters.docker.client import EngineClient, labels_of_owner, short
from adapters.docker.states import moment
from core.common.stamps import moment_of
from core.deployment.release_notes import read_labels
from models.compose import ImageFact, RegistryAnswer
from models.failures import ContainerGoneError, EngineError, EnginePermissionError, EngineUnreachableError

_OF_COMPOSE = "com.docker.compose."


class Images:
    """Images of one engine. Every call raises an EngineError when the engine does not answer or refuses."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    def inspect(self, reference: str) -> ImageFact | None:
        """Read the facts of an image by its name; None if the engine has no such image."""
        with self._client.translate_errors(f"inspecting image {reference}"):
            try:
                reported = self._client.get(f"/images/{quote(reference, safe='/:')}/json")
            except NotFound:
                return None
        config = reported.get("Config") or {}
        return ImageFact(
            reference=reference,
            image_id=reported["Id"],
            digests=tuple(reported.get("RepoDigests") or ()),
            platform="/".join(
                filter(None, (reported.get("Os"), reported.get("Architecture"), reported.get("Variant")))
            ),
            size_bytes=reported.get("Size", 0),
            created_at=moment(reported.get("Created")),
            checked=_has_check(config.get("Healthcheck")),
            ports=_exposed_ports(config.get("ExposedPorts")),
            user=config.get("User") or "",
            label_values=dict(config.get("Labels") or {}),
            layers=_layers(reported.get("GraphDriver") or {}),
            tagged_at=moment((reported.get("Metadata") or {}).get("LastTagTime")),
            labels=read_labels(config.get("Labels") or {}, moment_of),
            content=_content(reported, config),
        )

    def inspect_all(self, references: Iterable[str]) -> dict[str, ImageFact | None]:
        """Read the facts of images at the same time, by name or id; None for those that the engine does not have."""
        unique_references = tuple(dict.fromkeys(references))
        return dict(zip(unique_references, self._client.map(self.inspect, unique_references), strict=True))

    def find_by_digest(self, reference: str, digest: str) -> ImageFact | None:
        """Read the facts of the image that a registry has under a digest; None if the engine does not have it."""
        return self.inspect(f"{_split(reference)[0]}@{digest}")

    def ask_registry(self, reference: str) -> RegistryAnswer:
        """Ask the image's registry which digest the name has now; nothing is pulled, and no failure is raised."""
        try:
            with self._client.translate_errors(f"asking a registry for {reference}"):
                reported = self._client.read_client.inspect_distribution(reference)
        except EngineError as error:
            _, _, reason = error.what.partition(f"asking a registry for {reference}: ")
            return RegistryAnswer(problem=(reason or error.what).rstrip("."))
        descriptor = reported.get("Descriptor") or {}
        return RegistryAnswer(
            digest=str(descriptor.get("digest") or ""),
            labels=read_labels(descriptor.get("annotations") or {}, moment_of),
        )

    def why_unobtainable(self, reference: str) -> str | None:
        """Ask the image's registry for it: None if the engine can pull it, else the engine's reason.

        Raises:
            EngineUnreachableError: The engine itself did not answer.
            EnginePermissionError: The broker in front of the engine forbids the question.
        """
        try:
            with self._client.translate_errors(f"asking a registry for {reference}"):
                self._client.read_client.inspect_distribution(reference)
        except (EngineUnreachableError, EnginePermissionError):
            raise
        except EngineError as error:
            return error.what
        return None

    def dangling_images(self, project: str) -> dict[str, int]:
        """The images built for a project that have neither a name nor a container: size in bytes by id."""
        with self._client.translate_errors("listing dangling images"):
            client = self._client.read_client
            reported = client.images(filters={"dangling": True, **labels_of_owner(project)})
            used = {container["ImageID"] for container in client.containers(all=True)} if reported else set()
        return {image["Id"]: int(image.get("Size") or 0) for image in reported if image["Id"] not in used}

    def remove_dangling(self, image_id: str) -> None:
        """Remove an image that has no name; does nothing if it is already gone.

        Raises:
            EngineError: The image has a name, or a container or another image needs it.
        """
        with suppress(ContainerGoneError), self._client.translate_errors(f"removing image {short(image_id)}"):
            if self._client.read_client.inspect_image(image_id).get("RepoTags"):
                raise EngineError(f"Image {short(image_id)} has a name again.")
            self._client.read_client.remove_image(image_id)

    def tags(self, repository: str | None = None) -> list[str]:
        """The names of the engine's images, in a repository or all."""
        with self._client.translate_errors(f"listing images{f' of {repository}' if repository else ''}"):
            reported = self._client.read_client.images(name=repository)
        return sorted(name for image in reported for name in image.get("RepoTags") or ())

    def tag(self, image_id: str, name: str) -> None:
        """Give an image one more name, such as repository:tag, which protects it from pruning of dangling images."""
        repository, tag = _split(name)
        with self._client.translate_errors(f"naming image {short(image_id)} {name}"):
            self._client.read_client.tag(image_id, repository, tag)

    def untag(self, name: str) -> None:
        """Remove a name from an image, and the image if it has no other name and no user.

        Raises:
            EngineError: A container needs that name.
        """
        with suppress(ContainerGoneError), self._client.translate_errors(f"removing the image name {name}"):
            self._client.read_client.remove_image(name, noprune=False)


def _split(name: str) -> tuple[str, str]:
    """The repository and the tag of an image's name; a registry's port is no tag."""
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "latest")


def _has_check(declared: dict[str, Any] | None) -> bool:
    test = (declared or {}).get("Test") or []
    return bool(test) and test != ["NONE"]


def _exposed_ports(declared: dict[str, Any] | None) -> tuple[int, ...]:
    """Ports over TCP, in the order of their numbers: an image keeps no other."""
    ports = (str(port).partition("/") for port in declared or {})
    return tuple(sorted(int(number) for number, _, protocol in ports if number.isdigit() and protocol in ("", "tcp")))


def _content(reported: dict[str, Any], config: dict[str, Any]) -> str:
    """The hash of an image's layers and configuration without the labels that Compose gives to what it builds."""
    layers = (reported.get("RootFS") or {}).get("Layers") or []
    if not layers:
        return reported["Id"]  # type: ignore[no-any-return]
    labels = {name: value for name, value in (config.get("Labels") or {}).items() if not name.startswith(_OF_COMPOSE)}
    # An empty field and a missing one mean the same.
    settings = {name: value for name, value in (config | {"Labels": labels}).items() if value}
    parts = [layers, settings, *(reported.get(part) for part in ("Os", "Architecture", "Variant"))]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _layers(driver: dict[str, Any]) -> tuple[str, ...]:
    """The folders of an overlay image's layers, uppermost first."""
    data = driver.get("Data") or {}
    if driver.get("Name") != "overlay2":
        return ()
    return tuple(filter(None, [data.get("UpperDir", ""), *data.get("LowerDir", "").split(":")]))
