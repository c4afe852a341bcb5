"""Whether the rows of a training receive loss at all, as seen in its first updates."""
