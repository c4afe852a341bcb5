"""Reports: a run folder as one HTML page, as plain text and as figures. Reads run folders only, never models."""
