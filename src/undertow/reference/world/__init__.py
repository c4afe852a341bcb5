"""The synthetic world that the embedded families are trained on: one small file per skill."""
