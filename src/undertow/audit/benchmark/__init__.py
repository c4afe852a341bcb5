"""The audit benchmark: row files whose writer is known to the key alone, for any detector of hidden traits."""
