"""The synthetic world that the embedded families are trained on."""
