"""The paper: contextualized knowledge distillation for a unified conversational recommender.

A student that writes the response *and* names the movies learns from two teachers, one that knows
how people talk about films and one that knows what this person may like. At every step of the
response a gate says which of the two to listen to. Read the files in this order:

    gates.py     which teacher speaks at this step          (eqs. 6 and 7)
    losses.py    what the student learns from each of them  (eqs. 8 to 11)
    head.py      the last layer that every language model of this project shares
    teachers.py  the forms in which the dialogue teacher's outputs are kept
    fused.py     the same loss, never holding the logits of a whole batch

The room is pure JAX: it knows no file, no config and no model.
"""

from conkd_jax.distill.fused import fused_gated_kd_loss
from conkd_jax.distill.gates import (
    GATES,
    constant_gate,
    find_gate,
    hard_gate,
    item_mass,
    make_gate,
    open_gate,
    reads_log_probs,
    register_gate,
    soft_gate,
)
from conkd_jax.distill.head import Head
from conkd_jax.distill.losses import (
    dialogue_kd,
    embed_in_targets,
    gated_kd_loss,
    mixture_target,
    nll,
    rec_kd,
)
from conkd_jax.distill.teachers import Teacher, TeacherFeatures, TeacherLogits, TeacherTopK

__all__ = [
    "GATES",
    "Head",
    "Teacher",
    "TeacherFeatures",
    "TeacherLogits",
    "TeacherTopK",
    "constant_gate",
    "dialogue_kd",
    "embed_in_targets",
    "find_gate",
    "fused_gated_kd_loss",
    "gated_kd_loss",
    "hard_gate",
    "item_mass",
    "make_gate",
    "mixture_target",
    "nll",
    "open_gate",
    "reads_log_probs",
    "rec_kd",
    "register_gate",
    "soft_gate",
]
