"""What a person types into the form by which a waiting run is resumed."""

from __future__ import annotations

import jsonschema
import pytest

from flows.recovery.approve import Answer
from models.recovery import Choice


@pytest.mark.parametrize(
    ("typed", "choice"),
    [
        *((str(one), one) for one in Choice),
        ("Retry", Choice.RETRY),
        (" RETRY. ", Choice.RETRY),
        ("Again", Choice.AGAIN),
        ("Roll-back", Choice.ROLL_BACK),
        ("rollback", Choice.ROLL_BACK),
        ("Resolved", Choice.RESOLVED),
    ],
)
def test_a_decision_need_not_be_typed_exactly(typed: str, choice: Choice) -> None:
    filled = {"choice": typed, "note": "mended", "by": "ann"}
    jsonschema.validate(filled, Answer.model_json_schema())
    assert Answer(**filled).choice is choice


@pytest.mark.parametrize("typed", ["", "perhaps", "retry it", "roll", "retry skip"])
def test_what_is_no_decision_is_refused_before_the_run_goes_on(typed: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"choice": typed, "note": "mended", "by": "ann"}, Answer.model_json_schema())
