"""Artifacts: the stages that make them, their fingerprints, manifests and locks."""
