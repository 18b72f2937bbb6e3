"""Defects that are put into the product on purpose: the simulation must find each, or it proves nothing about it.

Each changes one function of the product as a careless change could: it forgets a check, a wish or a record.
"""

from __future__ import annotations

from tests.simulation.kill_faults import KILL_FAULTS
from tests.simulation.operation_faults import OPERATION_FAULTS
from tests.simulation.recovery_faults import RECOVERY_FAULTS

FAULTS = (*OPERATION_FAULTS, *RECOVERY_FAULTS, *KILL_FAULTS)
