"""The names of an environment's services, by its files alone, for shell completion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters.config.yaml_files import read_document, read_documents


def service_names(path: Path) -> set[str]:
    """The services that an environment file and its Compose files name.

    Compose is not asked, so services of included files are missing.

    Raises:
        EnvironmentFileError: A file cannot be read.
    """
    declared = _mapping(read_document(path)[1])
    files = [path.parent / Path(str(name)) for name in declared.get("compose_files") or ()]
    documents = [declared, *(document for file in files for document in read_documents(file))]
    return {str(name) for document in documents for name in _mapping(_mapping(document).get("services"))}


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}
