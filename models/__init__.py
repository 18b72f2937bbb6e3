"""Words: frozen values, settings, failures and table rows."""
