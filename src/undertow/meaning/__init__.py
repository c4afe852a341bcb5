"""Controls that look for meaning in rows: number tables, trained detectors, and a model asked who wrote what."""
