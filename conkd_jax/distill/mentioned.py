"""The recommender masked to what is new: P_ψ without the items that a dialogue has mentioned.

Much of what a recommender knows of a dialogue is which items were just named, and naming them
again is an easy way to be right. This option is not in the paper. This file must not depend on how
the mentioned items were found.
"""

import jax.numpy as jnp

from conkd_jax.typing import Array, Float, Int


def without_mentioned(
    rec_logits: Float[Array, "G I"], mentioned: Int[Array, "G K"]
) -> Float[Array, "G I"]:
    """Logits of P_ψ masked to items that are not yet mentioned, and renormalised.

    P'_ψ(i | x) = P_ψ(i | x) / Σ_{j not in M} P_ψ(j | x) where i is not in M, else 0

    M are the items that the dialogue mentions before the response. So P'_ψ is one distribution for
    a whole response, as P_ψ is in eq. 9: an item named earlier in the same response is not masked.
    (Of the items that ReDial's responses name, less than 1 % were named earlier in the same one.)
    Where the gold item is in M, its label counts as ever, and the recommender gives it nothing.
    If M holds every item, nothing is left, and P_ψ is kept as it is.

    Args:
      rec_logits: the recommender's, one row per response, over the items that have a token.
      mentioned: M for each response, as columns of `rec_logits`; I or more is padding.

    Returns:
      The same logits, with the lowest finite number at mentioned items: its softmax is 0 there.
    """
    rows = jnp.arange(mentioned.shape[0])[:, None]
    is_new = jnp.ones(rec_logits.shape, bool).at[rows, mentioned].set(False, mode="drop")
    lowest = jnp.finfo(rec_logits.dtype).min  # -inf would make nan of a row without any other
    masked = jnp.where(is_new, rec_logits, lowest)
    return jnp.where(jnp.any(is_new, axis=-1, keepdims=True), masked, rec_logits)
