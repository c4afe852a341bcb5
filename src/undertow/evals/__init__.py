"""Evaluations: what is asked of a model, and how its answers become scores."""
