"""The stages of the pipeline, and the trained models that they save and reopen."""
