"""What every flow uses: parameters, identifiers, who asked, signals, phases, what outlasts an outage of the server."""
