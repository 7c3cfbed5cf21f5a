"""The stages of a run: one file says one stage's inputs, its config part and what it leaves."""
