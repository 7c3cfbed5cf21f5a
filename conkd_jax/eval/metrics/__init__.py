"""Every number that is computed from predictions."""
