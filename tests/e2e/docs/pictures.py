"""Make the pictures of the documents from a real run of the tutorial: `python -m tests.e2e.docs.pictures`."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from adapters.stores import Stores
from flows.server.shared_server import end_unused_server
from models.settings import Settings
from tests.e2e.browser.serving import Served, browser, served, sign_in
from tests.e2e.docs.reader import DocumentReader
from tests.integration.docs.documents import ROOT, TUTORIAL, blocks

IMAGES = ROOT / "docs" / "images"

_COLUMNS = 104
_BAD_START = "roas start ||"
"""The block of the tutorial that is pictured instead of typed."""
_SHOWN = (
    ("roas start --quiet", r"^failed: ", r"^rollback: "),
    ("roas why", "", r"^tried "),
)
"""Commands of the picture of the terminal, with the first and the last line that is shown."""


def main() -> None:
    """Run the tutorial up to the failed release, and picture the terminal, the report, the page and the UI."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="roas-pictures-") as folder:
        reader = DocumentReader(Path(folder), name=_free_name(), more={"ROAS_WARM": "0"})
        os.environ |= {"ROAS_DATA_DIR": f"{folder}/data", "ROAS_WARM": "0", "PYTHONPATH": str(ROOT)}
        try:
            _follow(reader)
            _picture_terminal(reader)
            subprocess.run(
                ["roas", "report", "--html", "report.html"], cwd=reader.here, env=reader.variables, check=True
            )
            # Served from here, the checkout's own environments would be watched and recovered too.
            os.environ["ROAS_CONFIG"] = str(reader.here / "roas.yaml")
            os.chdir(reader.here)
            with browser() as page:
                _picture_report(page, reader.here / "report.html")
                with served(reader.folder) as server:
                    _picture_page(page, server)
                    _picture_ui(page, server)
        finally:
            reader.clean_up()
            end_unused_server(Settings().prefect_home)


def _free_name() -> str:
    """The tutorial's own name, since pictures show it; refuse if an application of this name is there."""
    label = "label=com.docker.compose.project=shop"
    found = subprocess.run(["docker", "ps", "--all", "--quiet", "--filter", label], capture_output=True, check=True)
    assert not found.stdout, "a Compose project named shop is on this engine: the pictures need the name"
    return "shop"


def _follow(reader: DocumentReader) -> None:
    """Do what the page does, up to the bad release."""
    for block in (one for one in blocks() if one.file == TUTORIAL):
        if block.title:
            reader.write(block)
        elif block.mode == "run":
            if block.text.startswith(_BAD_START):
                return
            reader.run(block)


def _picture_terminal(reader: DocumentReader) -> None:
    text = Text()
    for command, first, last in _SHOWN:
        text.append("$ ", style="bold green").append(f"{command}\n", style="bold")
        text.append_text(_between(Text.from_ansi(_printed(reader, command)), first, last)).append("\n\n")
    console = Console(record=True, width=_COLUMNS, file=Path(os.devnull).open("w"))  # noqa: SIM115 - one for the process
    text.rstrip()
    console.print(text)
    # Without the font, which a browser would load from another address.
    format_ = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title="roas", code_format=format_.replace("Fira Code, monospace", "monospace"))
    (IMAGES / "terminal.svg").write_text(svg)


def _printed(reader: DocumentReader, command: str) -> str:
    """What a command prints on a terminal, with its colours."""
    ours, theirs = pty.openpty()
    variables = reader.variables | {"TERM": "xterm-256color", "COLUMNS": str(_COLUMNS)}
    process = subprocess.Popen(
        command.split(), cwd=reader.here, env=variables, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    printed = b""
    try:
        while more := os.read(ours, 4096):
            printed += more
    except OSError:
        # The other end is closed: the command has ended.
        pass
    finally:
        os.close(ours)
    process.wait()
    return printed.decode().replace("\r\n", "\n").replace(reader.name, "shop")


def _between(text: Text, first: str, last: str) -> Text:
    lines = text.split("\n")
    start = next((number for number, line in enumerate(lines) if re.search(first, line.plain)), 0)
    end = next((number for number, line in enumerate(lines) if re.search(last, line.plain)), len(lines) - 1)
    return Text("\n").join(lines[start : end + 1])


def _picture_report(page: Page, report: Path) -> None:
    page.goto(report.as_uri())
    page.get_by_role("link", name="Failures and repairs").click()
    page.screenshot(path=IMAGES / "report.png")


def _picture_page(page: Page, server: Served) -> None:
    page.goto(f"{server.url}/roas/environments/shop")
    page.get_by_label("Password").fill(server.auth_string)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    page.screenshot(path=IMAGES / "page.png")


def _picture_ui(page: Page, server: Served) -> None:
    with Stores.open(Settings()) as stores:
        (failed, *_) = [one for one in stores.operations.history(limit=10) if one.status == "failed"]
    found = server.ask("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}})
    run = next(one for one in found if failed.environment in one["name"])
    sign_in(page, server)
    page.goto(f"{server.url}/runs/flow-run/{run['id']}")
    expect(page.locator(".state-badge").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.screenshot(path=IMAGES / "prefect-ui.png")


if __name__ == "__main__":
    main()
