"""Verify the audit logs: compare the rows with the log's entries, and the entries with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapters.stores.audit import AUDITED, entries, file_digest, row_key, row_values, select_all
from adapters.stores.stores import Stores
from core.storage.audit import Verifier
from models.audit import AuditFinding, AuditReport
from models.failures import StoreError


def verify(stores: Stores, expected: Sequence[str] = ()) -> list[AuditReport]:
    """Verify each store's audit log. Each hash of `expected` was noted earlier and must still be in one of them.

    Raises:
        StoreError: A store cannot be read.
    """
    verifiers = {store: _verify(stores, store) for store in AUDITED}
    reports = [_report(stores, store, verifier) for store, verifier in verifiers.items()]
    for noted in expected:
        if not any(noted in verifier.hashes for verifier in verifiers.values()):
            reported = "".join(verifier.explain_missing_hash() for verifier in verifiers.values())
            missing = AuditFinding(
                store="audit_log",
                subject=f"hash {noted}",
                what=f"no entry has this hash: entries up to it were rewritten or cut off{reported}",
            )
            reports[0] = replace(reports[0], findings=(*reports[0].findings, missing))
    return reports


def _verify(stores: Stores, store: str) -> Verifier:
    verifier = Verifier(store)
    # One transaction: entries and rows are of the same moment.
    with stores.databases[store].read() as connection:
        for entry in entries(connection):
            verifier.add(entry)
        # Without any entry each row would be a finding, and one says it all.
        for table in AUDITED[store] if verifier.entries else ():
            for row in connection.execute(select_all(table)):
                verifier.compare(table, row_key(table, row), row_values(row))
    verifier.finish()
    return verifier


def _report(stores: Stores, store: str, verifier: Verifier) -> AuditReport:
    missing = []
    for file in verifier.archives:
        try:
            verifier.check_archive(file, file_digest(stores.folder / "archive" / file))
        except FileNotFoundError:
            missing.append(file)
        except OSError as error:
            raise StoreError(
                f"Archive {file} cannot be read: {error.strerror};", advice="may this user read the data folder?"
            ) from error
    return AuditReport(
        store=store,
        entries=verifier.entries,
        rows=verifier.rows,
        archives=len(verifier.archives) - len(missing),
        missing_archives=tuple(missing),
        head=verifier.head,
        findings=tuple(verifier.findings),
    )
