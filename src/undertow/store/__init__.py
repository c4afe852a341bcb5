"""Results that are stored once and found again: fingerprints, artifacts, stages, and their runner."""
