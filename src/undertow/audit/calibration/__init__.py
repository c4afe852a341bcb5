"""Error rates of the audit on a base of the user's own: false positives, power by dose, and benign shifts."""
