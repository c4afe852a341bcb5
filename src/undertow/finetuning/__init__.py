"""Fine-tuning: from rows to students."""
