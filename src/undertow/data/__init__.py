"""Row files: reading and writing them in every format, filtering rows, and cards that describe them for the Hub."""
