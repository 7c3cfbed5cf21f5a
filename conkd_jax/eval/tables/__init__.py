"""Results as tables, beside the paper's."""
