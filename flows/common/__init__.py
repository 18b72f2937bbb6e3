"""What every flow uses: parameters, identifiers, who asked, signals, phases, what outlasts an outage of the server."""

from flows.common.run_log import keep_plain

keep_plain()
