"""Let proxies that keep addresses follow the services behind them, whenever an operation may change an address."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from models.compose import Application
from models.environments import Environment
from models.failures import RoasError
from tasks.deployment.overlap import proxies_to_reload, reload_after_start

log = logging.getLogger("roas")

_CLOCKS = timedelta(minutes=1)
"""The engine's clock and ours may differ by so much."""


@dataclass(slots=True, kw_only=True)
class ProxyFollower:
    """Reloads the proxies of services whose containers an operation starts. `since` is when the operation began."""

    environment: Environment
    application: Application
    since: datetime
    _refused: dict[str, RoasError] = field(default_factory=dict)

    async def follow(self, service: str, *, changed: bool = True) -> None:
        """Reload the proxies of a service; `settle` tries again where one refuses.

        A service that is not `changed` counts where one of its containers was started since the operation began: an
        earlier process of the operation may have done that.
        """
        proxies = proxies_to_reload(self.environment, self.application, service)
        if not proxies:
            return
        try:
            reloaded = await reload_after_start(
                self.environment, service, proxies, None if changed else self.since - _CLOCKS
            )
        except RoasError as error:
            self._refused[service] = error
            return
        self._refused.pop(service, None)
        if reloaded:
            log.info("%s was reloaded, because %s may have another address", ", ".join(reloaded), service)

    async def settle(self) -> None:
        """Try again what refused: it may have needed another service that was not up yet.

        Raises:
            StartFailedError: A proxy refuses still, so it passes requests on to addresses that may be gone.
        """
        for service in tuple(self._refused):
            await self.follow(service)
        for error in self._refused.values():
            raise error
