"""Hooks of MkDocs: bring the project's other documents into the site, and write the reference from the code."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from deployments.docs.reference import PAGES

ROOT = Path(__file__).parents[2]

PROJECT_PAGES = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security-policy.md",
    "deployments/sample/README.md": "project/sample.md",
}
"""Documents outside docs/ that are pages of the site, with their place in it."""

_LINK = re.compile(r"(?<=\]\()(?!https?://|#)([^)\s#]+)")
_FENCE_MODE = re.compile(r"^```(\w+) run$", re.MULTILINE)
_FENCES = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents outside docs/, and the reference."""
    for source, place in PROJECT_PAGES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text()))
    for place, write in PAGES.items():
        files.append(File.generated(config, place, content=write()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links between docs/ and the other documents to their places in the site."""
    place = page.file.src_uri
    source = next((document for document, moved in PROJECT_PAGES.items() if moved == place), f"docs/{place}")
    parts = _FENCES.split(_FENCE_MODE.sub(r"```\1", markdown))
    # Every second part is a fenced block.
    parts[::2] = [_LINK.sub(lambda match: _moved(match[1], source, place), part) for part in parts[::2]]
    return "".join(parts)


def _moved(target: str, source: str, place: str) -> str:
    """The link to `target` from the page at `place`, whose document is `source`."""
    document = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if document in PROJECT_PAGES:
        moved = PROJECT_PAGES[document]
    elif document.startswith("docs/"):
        moved = document.removeprefix("docs/")
    else:
        # MkDocs reports it: the site has no such page.
        return target
    return posixpath.relpath(moved, posixpath.dirname(place) or ".")
