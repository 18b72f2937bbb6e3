"""Pages as files of HTML, or on standard output."""

from __future__ import annotations

from pathlib import Path

from adapters.host.private_files import write_private
from adapters.pages import page_html
from flows.common.terminal import echo
from models.failures import BadInputError
from models.pages import Page

STANDARD_OUTPUT = "-"


def write_html(page: Page, file: str) -> None:
    """Write a page as HTML into a file of mode 0600, or print it for `-`.

    Raises:
        BadInputError: The file cannot be written.
    """
    html = page_html(page)
    if file == STANDARD_OUTPUT:
        echo(html)
        return
    try:
        path = Path(file)
        # A device or a pipe would be replaced by the file.
        if path.exists() and not path.is_file():
            raise BadInputError(f"{file} is no regular file;", advice="name one, or - for standard output.")
        write_private(path, html.encode("utf-8", "backslashreplace"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInputError(
            f"The page cannot be written to {file!r}: {reason};", advice="name a file in a folder that you may write."
        ) from error
    echo(f"The page is in {file}", err=True)
