"""Channels by which a student learns from a teacher other than its sampled rows."""
