"""The human evaluation: sheets out, scores in."""
