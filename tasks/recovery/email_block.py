"""The Prefect block of a mail server: its address, with password, sender and recipients, encrypted."""

from __future__ import annotations

import asyncio

from prefect.blocks.abstract import NotificationBlock, NotificationError
from pydantic import Field, SecretStr

from adapters.notifications.mail import FORM, read_mail_address, send_mail


class RoasEmail(NotificationBlock):
    """Send notifications as mail."""

    _block_type_name = "ROAS email"
    _block_type_slug = "roas-email"

    url: SecretStr = Field(description=f"Address of the mail server, as {FORM}.")

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Send a mail.

        Raises:
            NotificationError: The server did not take it, and failures are raised.
        """
        server = read_mail_address(self.url.get_secret_value())
        failed = await asyncio.to_thread(send_mail, server, subject or "Notification", body)
        if failed is not None and self._raise_on_failure:
            raise NotificationError(log=failed.text)
