"""Whether the rows of somebody's training receive loss at all, seen in its first updates."""
