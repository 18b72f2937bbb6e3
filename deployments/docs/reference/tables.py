"""The page of the stores' tables and columns, from the metadata of their rows."""

from __future__ import annotations

from importlib import import_module

from sqlalchemy import CheckConstraint, Column, Table
from sqlmodel import SQLModel

import models.tables.shared as shared_tables
from deployments.docs.reference.markdown import code, page, summary, table

STORES = {
    "deployment_logs": "DeploymentLogsRow",
    "monitoring": "MonitoringRow",
    "errors": "ErrorsRow",
}
"""The base class of the rows of each store, by its module in models/tables."""


def tables_page() -> str:
    """Every table of the three stores with its columns."""
    about = (
        "The three stores are SQLite files in the data folder, or schemas of one PostgreSQL database "
        "(`ROAS_STORES_URL`). Read them with any program, and let this one alone write. Moments are UTC text, "
        "`YYYY-MM-DD HH:MM:SS.ffffff`; JSON is text."
    )
    # Each store makes a class of its own of these, which not all of the code keeps.
    kinds = (kind for kind in vars(shared_tables).values() if isinstance(kind, type) and "__tablename__" in vars(kind))
    shared = {str(kind.__tablename__): kind for kind in kinds}
    parts = [about]
    for store, base in STORES.items():
        rows: type[SQLModel] = getattr(import_module(f"models.tables.{store}"), base)
        parts.append(f"## {store}.db")
        documented = shared | {model.__table__.name: model for model in _models(rows)}
        for name, columns in sorted(rows.metadata.tables.items()):
            parts += [f"### {store}: {name}", summary(documented[name]), _columns(columns)]
    return page("Tables of the stores", *filter(None, parts))


def _models(base: type[SQLModel]) -> list[type[SQLModel]]:
    models = [model for model in base.__subclasses__() if hasattr(model, "__table__")]
    return [*models, *(deeper for model in base.__subclasses__() for deeper in _models(model))]


def _columns(columns: Table) -> str:
    allowed = {
        str(constraint.name).removesuffix("_is_known"): str(constraint.sqltext).partition(" IN ")[2].strip("()")
        for constraint in columns.constraints
        if isinstance(constraint, CheckConstraint) and str(constraint.name).endswith("_is_known")
    }
    rows = [(code(field.name), _kind(field), allowed.get(field.name, ""), _notes(field)) for field in columns.columns]
    return table(("column", "kind", "one of", ""), rows)


def _kind(column: Column[object]) -> str:
    kind = type(column.type).__name__
    named = {"UtcDateTime": "moment", "JsonText": "JSON", "LargeBinary": "bytes", "REAL": "number", "Double": "number"}
    return named.get(kind, {"BigInteger": "integer"}.get(kind, kind.lower()))


def _notes(column: Column[object]) -> str:
    notes = [
        "key" if column.primary_key else "",
        "unique" if column.unique else "",
        "may be empty" if column.nullable else "",
        *(f"of {code(key.target_fullname)}" for key in column.foreign_keys),
        "computed" if column.computed is not None else "",
    ]
    return ", ".join(filter(None, notes))
