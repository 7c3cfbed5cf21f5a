"""The types of every public function, and the letters of their dimensions, told once.

    B  rows of a batch                      V  words of the vocabulary, end token included
    S  tokens of a row (the context)        I  items (movies) that have a token
    R  tokens of a response                 Y  targets of the softmax, V followed by I: Y = V + I
    D  embedding width                      N  response tokens of a batch, all responses in one line
    F  features that enter a head           G  responses of a batch
    K  candidates kept (top-k), folds       M  movies the recommender ranks; bases of an R-GCN

In the graph modules N is nodes and E edges. A name such as ``"N Y"`` in an annotation is a shape
of these letters. This module knows nothing else of the project, and imports none of it.
"""

from typing import Any

from jaxtyping import Array, Bool, Float, Int, Integer, Key, PRNGKeyArray, PyTree, Shaped

Scalar = Float[Array, ""]
Params = dict[str, Any]

__all__ = [
    "Array",
    "Bool",
    "Float",
    "Int",
    "Integer",
    "Key",
    "PRNGKeyArray",
    "Params",
    "PyTree",
    "Scalar",
    "Shaped",
]
