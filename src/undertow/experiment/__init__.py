"""Experiments as graphs of stages whose results are stored and never computed twice."""
