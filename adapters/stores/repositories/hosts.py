"""Hosts, the environments that belong to them, and the events about them that are reported once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa

from adapters.stores.audit import append
from adapters.stores.clock import clock_skew, database_now
from adapters.stores.repositories.repository import Repository, Rows
from adapters.stores.sql import insert_unless_there, table, upsert
from models.audit import SYSTEM, Actor
from models.failures import BadInputError, NotFoundError
from models.hosts import SILENT_AFTER, SKEW_ALERTS_OVER, Host, HostedEnvironment, HostEvent, HostEventKind, HostIdentity
from models.tables.deployment_logs import EnvironmentHost, EnvironmentLease, HostRow

_hosts = table(HostRow)
_bindings = table(EnvironmentHost)
_leases = table(EnvironmentLease)
_rows = Rows(HostRow, Host)
_binding_rows = Rows(EnvironmentHost, HostedEnvironment)


class Hosts(Repository):
    """Hosts. Every moment is by the database's clock."""

    def report(self, identity: HostIdentity, *, version: str, engine: str, backlog: int) -> Host:
        """Record that a host is in contact, and how its clock differs from the database's."""
        with self._database.write() as connection:
            skew = clock_skew(connection).total_seconds()
            now = database_now(connection)
            values = {
                "host_id": identity.host_id,
                "name": identity.name,
                "version": version,
                "engine": engine,
                "first_contact": now,
                "last_contact": now,
                "clock_skew_seconds": round(skew, 3),
                "backlog": backlog,
                "dismissed_at": None,
            }
            upsert(connection, HostRow, values, keys=["host_id"], keep=["first_contact"])
            row = connection.execute(sa.select(_hosts).where(_hosts.c.host_id == identity.host_id)).one()
        return _rows.to_value(row)

    def introduce(self, identity: HostIdentity, *, version: str) -> None:
        """Make a host known by which a single command runs; no contact is expected of it."""
        with self._database.read() as connection:
            recorded_name = connection.execute(
                sa.select(_hosts.c.name).where(_hosts.c.host_id == identity.host_id)
            ).scalar()
        if recorded_name == identity.name:
            return
        with self._database.write() as connection:
            now = database_now(connection)
            values = {
                "host_id": identity.host_id,
                "name": identity.name,
                "version": version,
                "engine": "",
                "first_contact": now,
                "last_contact": now,
                "clock_skew_seconds": 0.0,
                "backlog": 0,
                "dismissed_at": now,
            }
            if not insert_unless_there(connection, HostRow, values, keys=["host_id"]):
                renamed = sa.update(_hosts).where(_hosts.c.host_id == identity.host_id)
                connection.execute(renamed.values(name=identity.name))

    def all(self) -> list[Host]:
        """Every host, by name."""
        return [_rows.to_value(row) for row in self._all(sa.select(_hosts).order_by(_hosts.c.name, _hosts.c.host_id))]

    def find(self, host_id: str) -> Host | None:
        """The host of exactly this id, or None."""
        row = self._first(sa.select(_hosts).where(_hosts.c.host_id == host_id))
        return None if row is None else _rows.to_value(row)

    def get_by_name(self, name: str) -> Host:
        """The host of this name or id.

        Raises:
            NotFoundError: There is none.
            BadInputError: Several have this name.
        """
        hosts = [host for host in self.all() if name in (host.name, host.host_id)]
        if not hosts:
            raise NotFoundError(f"No host is named {name!r};", advice="`roas fleet` lists them.")
        if len(hosts) > 1:
            ids = ", ".join(host.host_id for host in hosts)
            raise BadInputError(f"Several hosts are named {name!r} ({ids});", advice="give the id.")
        return hosts[0]

    def now(self) -> datetime:
        """The time by the database's clock."""
        with self._database.read() as connection:
            return database_now(connection)

    def skew(self) -> timedelta:
        """How far this machine's clock is ahead of the database's; zero where the stores are files."""
        with self._database.read() as connection:
            return clock_skew(connection)

    def owner(self, environment: str) -> str | None:
        """The id of the host that an environment belongs to; None where none has operated it."""
        row = self._first(sa.select(_bindings).where(_bindings.c.environment == environment))
        return None if row is None else str(row.host_id)

    def bindings(self) -> Mapping[str, HostedEnvironment]:
        """The host of every environment that has one."""
        return {row.environment: _binding_rows.to_value(row) for row in self._all(sa.select(_bindings))}

    def bind(self, environment: str, identity: HostIdentity) -> str:
        """Let an environment that has no host belong to this one; returns the id of the host that it belongs to."""
        with self._database.write() as connection:
            if _insert_binding(connection, environment, identity):
                append(connection, "bound", environment, {}, host=identity.host_id)
            query = sa.select(_bindings.c.host_id).where(_bindings.c.environment == environment)
            return str(connection.execute(query).scalar_one())

    def move(self, environment: str, identity: HostIdentity, *, instead_of: str | None, actor: Actor = SYSTEM) -> bool:
        """Let an environment belong to this host.

        False where it does not belong to `instead_of` any more, that host is in contact again, or an operation holds
        the environment: hosts and leases change in transactions of the same store only.
        """
        with self._database.write() as connection:
            now = database_now(connection)
            there = connection.execute(sa.select(_hosts).where(_hosts.c.host_id == instead_of)).one_or_none()
            lease_exists = sa.exists().where(_leases.c.environment == environment, _leases.c.expires_at > now)
            if (there is not None and _rows.to_value(there).is_in_contact(now)) or connection.scalar(
                sa.select(lease_exists)
            ):
                return False
            if instead_of is None:
                done = _insert_binding(connection, environment, identity)
            else:
                its = sa.and_(_bindings.c.environment == environment, _bindings.c.host_id == instead_of)
                values = {"host_id": identity.host_id, "since": now}
                done = connection.execute(sa.update(_bindings).where(its).values(**values)).rowcount == 1
            if done:
                append(connection, "moved", environment, {}, actor=actor, host=identity.host_id)
            return done

    def let_go(self, environment: str, identity: HostIdentity, *, actor: Actor = SYSTEM) -> bool:
        """Let an environment belong to no host; False where it does not belong to this one."""
        its = sa.and_(_bindings.c.environment == environment, _bindings.c.host_id == identity.host_id)
        with self._database.write() as connection:
            there = connection.execute(sa.select(_bindings.c.host_id).where(its)).one_or_none() is not None
            if there:
                append(connection, "let go", environment, {}, actor=actor, host=identity.host_id)
                connection.execute(sa.delete(_bindings).where(its))
            return there

    def dismiss(self, host_id: str) -> bool:
        """Record that a host is not expected back: its silence is no alert then. False where it is not known."""
        with self._database.write() as connection:
            update = sa.update(_hosts).where(_hosts.c.host_id == host_id)
            values = {"dismissed_at": database_now(connection), "silent_since": None, "skewed_since": None}
            return connection.execute(update.values(**values)).rowcount == 1

    def has_news(self) -> bool:
        """Whether `notice` would find anything."""
        with self._database.read() as connection:
            now = database_now(connection)
            rows = connection.execute(sa.select(_hosts)).all()
        return any(True for row in rows for _ in _news(_rows.to_value(row), now))

    def notice(self) -> list[HostEvent]:
        """Mark what became true of hosts and what ended; of all who ask, one gets each change."""
        with self._database.write() as connection:
            now = database_now(connection)
            rows = connection.execute(sa.select(_hosts).with_for_update()).all()
            events = [event for row in rows for event in _news(_rows.to_value(row), now)]
            marks = {(event.host.host_id, _MARKS[event.kind]): None if event.ended else event.since for event in events}
            for (host_id, mark), value in marks.items():
                connection.execute(sa.update(_hosts).where(_hosts.c.host_id == host_id).values({mark: value}))
        return events


_MARKS = {HostEventKind.SILENT: "silent_since", HostEventKind.SKEWED: "skewed_since"}


def _news(host: Host, now: datetime) -> Iterator[HostEvent]:
    """What became true of a host, and what ended."""
    if host.dismissed_at is not None:
        return
    is_silent, since = now - host.last_contact >= SILENT_AFTER, host.silent_since
    # It may have been back meanwhile without anybody asking: then that silence ended, and this is another one.
    is_same = is_silent and since == host.last_contact
    if since is not None and not is_same:
        yield HostEvent(host=host, kind=HostEventKind.SILENT, since=since, ended=True)
    if is_silent and not is_same:
        yield HostEvent(host=host, kind=HostEventKind.SILENT, since=host.last_contact)
    is_skewed = abs(host.clock_skew_seconds) > SKEW_ALERTS_OVER.total_seconds()
    if is_skewed is (host.skewed_since is None):
        since = now if host.skewed_since is None else host.skewed_since
        yield HostEvent(host=host, kind=HostEventKind.SKEWED, since=since, ended=not is_skewed)


def _insert_binding(connection: sa.Connection, environment: str, identity: HostIdentity) -> bool:
    values = {"environment": environment, "host_id": identity.host_id, "since": database_now(connection)}
    return insert_unless_there(connection, EnvironmentHost, values, keys=["environment"])
