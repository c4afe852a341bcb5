"""Students that a service trains."""
