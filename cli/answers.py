"""`roas webhooks`: serve the links with which tickets are answered from a chat, and take pushes of git servers."""

from __future__ import annotations

import click

from cli.run_flow import run_flow
from flows.common.terminal import echo
from models.failures import BadInputError
from models.settings import current_settings

_REQUESTS_A_MINUTE = 60


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=4290, show_default=True, help="Where to listen.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def webhooks(port: int, host: str) -> None:
    """Serve links that answer tickets and alerts from a chat, and take pushes of git servers.

    Notifications carry such links where ROAS_ANSWERS_URL is set, the public address of a proxy with TLS in
    front of this server. A link works once, within 24 hours, and only by the button of its page.

    Pushes come to /push/ENV, for environments whose source has a webhook_secret.
    """
    from flows.source.push_places import takes_pushes

    if current_settings().answers_url is None and not takes_pushes():
        raise BadInputError(
            "ROAS_ANSWERS_URL is not set, so no notification carries a link;",
            advice="set it to the public address of this server, such as https://ops.example.",
        )

    async def serve() -> None:
        import asyncio

        from adapters.notifications.answer_server import AnswerServer, RateLimit
        from flows.recovery.answer import AnswerDesk
        from flows.source.push import PushDesk

        desk = AnswerDesk(asyncio.get_running_loop())
        pushes = PushDesk(asyncio.get_running_loop())
        limit = RateLimit(_REQUESTS_A_MINUTE)
        with AnswerServer((host, port), desk, limit, pushes) as server:
            echo(f"answer links are served on {host}:{server.server_port}")
            serving = asyncio.create_task(asyncio.to_thread(server.serve_forever))
            try:
                await asyncio.shield(serving)
            finally:
                server.shutdown()

    try:
        run_flow(serve, quiet=True)
    except OSError as error:
        raise BadInputError(f"{host}:{port} cannot be listened on: {error.strerror};", advice="use --port.") from error
