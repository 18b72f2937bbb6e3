"""Build the documentation site and check it: `python -m deployments.docs.build [FOLDER]`; without one, only check."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[2]

_LOADED = {"src", "srcset", "poster", "data"}
_LOADED_LINKS = {"stylesheet", "icon", "preconnect", "preload", "dns-prefetch", "prefetch", "manifest"}
_LOADED_BY_PICTURE = re.compile(r"""(?:url\(|href=)["']?((?:https?:)?//[^"')\s]+)""")


class _Page(HTMLParser):
    """The anchors of a page, its links, and what a browser loads for it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.without_text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.anchors.update(attributes[name] for name in ("id", "name") if name in attributes and tag != "meta")
        if "href" in attributes:
            loads = tag == "link" and _LOADED_LINKS & set(attributes.get("rel", "").split())
            (self.loaded if loads else self.links).append(attributes["href"])
        self.loaded += [attributes[name] for name in _LOADED & set(attributes)]
        if tag == "img" and "alt" not in attributes:
            self.without_text.append(attributes.get("src", ""))


def faults_of(site: Path) -> Iterator[str]:
    """A line for each link, anchor or image of a built site that leads nowhere, or loads from another address."""
    for picture in sorted(site.rglob("*.svg")):
        yield from (
            f"{picture.relative_to(site)}: it loads {address} from another address"
            for address in _LOADED_BY_PICTURE.findall(picture.read_text())
        )
    pages = {path: _Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site)
        yield from (f"{name}: the image {image} has no text" for image in page.without_text)
        for address in page.loaded:
            if urlsplit(address).scheme or address.startswith("//"):
                if not address.startswith("data:"):
                    yield f"{name}: a browser loads {address} from another address"
            elif _target(path, address, site) is None:
                yield f"{name}: {address} does not exist"
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if parts.scheme not in {"http", "https", "mailto"} or not (parts.netloc or parts.scheme == "mailto"):
                    yield f"{name}: {address} is no usable address"
                continue
            target = _target(path, address, site)
            if target is None:
                yield f"{name}: {address} does not exist"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{name}: {address} names no anchor of that page"


def _target(page: Path, address: str, site: Path) -> Path | None:
    """The file that a local address names; None where there is none."""
    path = unquote(urlsplit(address).path)
    if not path:
        return page
    start = site if path.startswith("/") else page.parent
    file = (start / path.lstrip("/")).resolve()
    file = file / "index.html" if file.is_dir() else file
    return file if file.is_file() and file.is_relative_to(site.resolve()) else None


def build(site: Path) -> int:
    """Build the site into a folder and check it; an exit code."""
    # Not --quiet: it drops the warnings that --strict counts.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    # Material for MkDocs prints a notice about its successor to each build; ADR 0057 is about that.
    variables = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if built.returncode:
        print(built.stdout, built.stderr)
        return 1
    faults = list(faults_of(site))
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(build(Path(sys.argv[1]).absolute()))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(build(Path(folder)))
