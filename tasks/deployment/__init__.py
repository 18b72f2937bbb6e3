"""Tasks of a deployment: one external effect each."""
