"""Names of images, as the engine completes them."""

from __future__ import annotations

DEFAULT_REGISTRY = "docker.io"


def complete_name(name: str) -> tuple[str, str, str | None]:
    """The registry, the repository and the tag that an image's name means; None without a tag. A digest is left out."""
    before = name.partition("@")[0]
    registry, slash, path = before.partition("/")
    is_registry = "." in registry or ":" in registry or registry == "localhost" or registry != registry.lower()
    if not (slash and is_registry):
        registry, path = DEFAULT_REGISTRY, before
    repository, colon, tag = path.partition(":")
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository, tag if colon else None
