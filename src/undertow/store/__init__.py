"""The store: results are kept once and found again. Fingerprints, artifacts, stages, and the runner of stages.

A stage is one piece of work, an artifact its stored result, and a fingerprint the hash of what the result was made
from.
"""
