"""A run outlives the lease of its concurrency limit, whichever flow it is of."""

from __future__ import annotations

import grimp

from flows.registry import FLOWS

KEEPS = {"flows.common.parameters", "flows.storage.lifecycle"}
"""Importing one of these lets runs of the process go on without a lease (flows/common/server_outages.py)."""


def test_every_flow_keeps_its_runs_where_the_server_forgets_their_lease() -> None:
    graph = grimp.build_graph("flows", exclude_type_checking_imports=True, cache_dir=None)
    modules = {flow.fn.__module__ for flow in FLOWS.values()}

    without = {
        module
        for module in modules
        if module not in KEEPS and not any(graph.chain_exists(module, keeps) for keeps in KEEPS)
    }

    assert without == set()
