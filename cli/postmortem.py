"""`roas postmortem`: a document on one failure, from the record alone."""

from __future__ import annotations

import click

from cli import completers
from cli.options import as_html, as_json
from cli.run_flow import show_answer
from flows.common.terminal import echo
from models.failures import BadInputError


@click.command()
@click.argument("record_id", metavar="ID", shell_complete=completers.failures)
@as_html
@as_json
def postmortem(record_id: str, html_file: str | None, json_wanted: bool) -> None:
    """Write a post-mortem in Markdown: timeline, cause, impact, attempts, what is open, what to change.

    ID is of an operation, an error or a ticket; a prefix is enough. All of it is from the record, and each line names
    its row.
    """
    from core.common.markdown import page_markdown
    from core.reporting.postmortem import postmortem_page, write_postmortem
    from tasks.reporting.postmortem import read_failure

    if json_wanted and html_file is not None:
        raise BadInputError("Give --html or --json, not both.")
    written = write_postmortem(read_failure(record_id))
    if html_file is not None:
        from cli.rendering.pages import write_html

        write_html(postmortem_page(written), html_file)
        return
    show_answer(written, json_wanted, lambda report: echo(page_markdown(postmortem_page(report))))
