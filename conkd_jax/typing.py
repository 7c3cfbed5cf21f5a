"""The types that public functions are annotated with, and the letters of their dimensions.

    B  rows of a batch                      V  words of the vocabulary, end token included
    S  tokens of a row (the context)        I  items that have a token
    T  tokens of a response                 Y  targets of the softmax, V followed by I: Y = V + I
    D  embedding width                      N  response tokens of a batch, all responses in a row
    F  features that enter a head           G  responses of a batch
    L  places of a padded list or memory    M  items that the recommender ranks
    K  candidates kept (top-k)

In the graph modules N is nodes, E edges, O output nodes and C concepts. A string such as ``"N Y"``
in an annotation is a shape of these letters. This module imports nothing of the project.
"""

from typing import Any

from jaxtyping import Array, Bool, Float, Int, Integer, PRNGKeyArray, PyTree, Shaped

Scalar = Float[Array, ""]
Params = dict[str, Any]

__all__ = [
    "Array",
    "Bool",
    "Float",
    "Int",
    "Integer",
    "PRNGKeyArray",
    "Params",
    "PyTree",
    "Scalar",
    "Shaped",
]
