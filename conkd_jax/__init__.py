"""ConKD in JAX: a unified conversational recommender by contextualized knowledge distillation."""

__version__ = "0.1.0"
