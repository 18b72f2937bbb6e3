"""What the control plane lets a host do: which credential reaches what, and how a new host is installed."""
