"""Estimates with intervals, paired and diagonal comparisons, multiplicity and power; numpy and scipy only."""
