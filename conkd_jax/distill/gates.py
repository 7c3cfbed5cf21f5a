"""The gate λ_t: how much to learn from which teacher at each token (eqs. 6 and 7).

Given the gold response so far, the dialogue teacher spreads the probability of the next token over
words and items. If much of this mass lies on items, a recommendation is due, and the recommender
is the better teacher. λ_t = 0 selects the dialogue teacher alone, λ_t = 1 the recommender alone.

A gate is a pure function of that mass, so a new one takes three lines::

    @register_gate("square")
    def square_gate(mass, *, scale=1.0):
        return scale * mass**2

A config may also name a function outside this package as "package.module:function". A gate with a
parameter `log_probs` receives the dialogue teacher's whole distribution as well, and one with a
parameter `is_item` is told whether the gold token is an item. This file must not depend on where
the mass comes from or what the gate is used for.
"""

import functools
import inspect
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from conkd_jax import own_code
from conkd_jax.distill.head import accumulation_dtype
from conkd_jax.distill.teachers import Teacher, TeacherTopK, take_rows
from conkd_jax.typing import Array, Bool, Float

Gate = Callable[..., Float[Array, "*N"]]  # (mass) to λ; see `reads` for what else it may take
TOKENS_AT_A_TIME = 256  # tokens whose log-probabilities exist at once

# Configs name gates by these keys. Because the names are data, a misspelled one is refused with the
# list of choices before any stage runs, and a gate is added without touching the code that uses it.
GATES: dict[str, Callable] = {}


def register_gate(name: str) -> Callable[[Callable], Callable]:
    """Decorator that adds a function ``(mass, **params) -> gate`` to GATES under a name."""

    def register(function: Callable) -> Callable:
        if name in GATES:
            raise ValueError(
                f"The gate {name!r} exists already ({GATES[name].__module__}); choose another name."
            )
        GATES[name] = function
        return function

    return register


def item_mass(logits: Float[Array, "*N Y"], num_words: int) -> Float[Array, "*N"]:
    """Probability that the next token is an item: the sum in eqs. 6 and 7.

    Σ_{y' in I} P_φ(y' | y_<t, x)

    Args:
      logits: the dialogue teacher's, words first and items after them.
      num_words: |V|, the index of the first item.

    Returns:
      Values in [0, 1]; float32, or float64 for float64 logits.
    """
    return item_mass_and_normalizer(logits, num_words)[0]


def item_mass_and_normalizer(
    logits: Float[Array, "*N Y"], num_words: int
) -> tuple[Float[Array, "*N"], Float[Array, "*N"]]:
    """`item_mass`, and log Z = log Σ_y exp(z_y) of the same logits z, from one exponential each.

    Args:
      logits: words first and items after them.
      num_words: |V|, the index of the first item.

    Returns:
      The item mass and the log-normaliser; float32, or float64 for float64 logits.
    """
    logits = logits.astype(accumulation_dtype(logits.dtype))
    largest = jnp.max(logits, axis=-1, keepdims=True)
    # Not exp(logsumexp(items) - logsumexp(all)): the difference of two large numbers loses digits,
    # and the gates compare and store this value.
    likelihoods = jnp.exp(logits - largest)
    words = jnp.sum(likelihoods[..., :num_words], axis=-1)
    items = jnp.sum(likelihoods[..., num_words:], axis=-1)
    return items / (words + items), largest[..., 0] + jnp.log(words + items)


@register_gate("hard")
def hard_gate(mass: Float[Array, "*N"], *, eta: float) -> Float[Array, "*N"]:
    """Selects one teacher: λ_t = 0 if mass < η, else 1 (eq. 6).

    Args:
      mass: item mass of the dialogue teacher.
      eta: the threshold η; .6 for DialoGPT in the paper.

    Raises:
      ValueError: eta is not a probability.
    """
    _check_probability("hard", "eta", eta)
    return (mass >= jnp.asarray(eta, mass.dtype)).astype(mass.dtype)


@register_gate("soft")
def soft_gate(mass: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """Mixes both teachers in proportion to the mass: λ_t = mass (eq. 7)."""
    return mass


@register_gate("constant")
def constant_gate(mass: Float[Array, "*N"], *, value: float) -> Float[Array, "*N"]:
    """Ignores the context: λ_t = value at every token.

    The ablations of Table 5 use 0 for (+)D, 1 for (+)R, and .5 in the last row.

    Args:
      mass: item mass of the dialogue teacher; only its shape and dtype are used.
      value: λ_t.

    Raises:
      ValueError: value is not a probability.
    """
    _check_probability("constant", "value", value)
    return jnp.full_like(mass, value)


@register_gate("oracle")
def oracle_gate(mass: Float[Array, "*N"], *, is_item: Bool[Array, "*N"]) -> Float[Array, "*N"]:
    """The gate that is never wrong: λ_t = 1 if y_t is an item, else 0. It is not in the paper.

    Every other gate guesses from y_<t whether an item is due; this one looks at y_t. That is no
    cheating, since gates are used in training alone, where y_t is known. A student of this gate
    shows what a perfect detector of item steps would be worth.

    Args:
      mass: item mass of the dialogue teacher; only its dtype is used.
      is_item: whether y_t is an item.
    """
    return is_item.astype(mass.dtype)


def make_gate(name: str, **params) -> Gate:
    """Looks up a gate, binds its parameters, and tries it on a few masses.

    Args:
      name: a key of GATES ("hard", "soft", "constant", …) or "package.module:function".
      **params: the function's keyword arguments, such as ``eta=.6``.

    Returns:
      A function of the mass, and of ``log_probs`` and ``is_item`` if it `reads` them.

    Raises:
      ValueError: the gate does not exist, lacks or does not take a parameter, refuses a value, or
        does not return a number from 0 to 1 for each mass.

    Example:
      >>> gate = make_gate("hard", eta=0.6)
      >>> gate(jnp.array([0.2, 0.6, 0.9]))
      Array([0., 1., 1.], dtype=float32)
    """
    # A gate may be the user's own code and is first needed when the student trains, after hours of
    # training teachers. So it is tried here: first by shapes, then on numbers.
    gate = functools.partial(find_gate(name), **params)
    mass = jnp.linspace(0.0, 1.0, 6).reshape(2, 3)
    known = {
        "log_probs": jax.nn.log_softmax(jnp.sin(jnp.arange(30.0)).reshape(2, 3, 5)),
        "is_item": (jnp.arange(6) % 2 == 1).reshape(2, 3),
    }
    try:
        extra = {name: value for name, value in known.items() if reads(gate, name)}
        result = jax.eval_shape(gate, mass, **extra)
    except (TypeError, ValueError) as error:  # ValueError: the signature lacks a keyword
        raise ValueError(
            f"The gate {name!r}, called with masses of shape {mass.shape} and {params}, failed: "
            f"{error}"
        ) from error
    if getattr(result, "shape", None) != mass.shape or result.dtype != mass.dtype:
        raise ValueError(
            f"The gate {name!r} must return one {mass.dtype.name} for each mass, but for masses of "
            f"shape {mass.shape} it returned {result}."
        )
    found = gate(mass, **extra)
    if not bool(((found >= 0) & (found <= 1)).all()):  # false for nan, too
        raise ValueError(
            f"The gate {name!r} must return numbers from 0 to 1, the recommender's share of the "
            f"target, but for masses {mass.ravel().tolist()} it returned "
            f"{found.ravel().tolist()}."
        )
    return gate


def reads(gate: Callable, name: str) -> bool:
    """Whether a gate takes something in addition to the mass.

    Args:
      gate: the function.
      name: "log_probs", log P_φ(· | y_<t, x) [*N, Y], or "is_item", whether y_t is in I [*N].
    """
    return name in inspect.signature(gate).parameters


def gate_values(
    gate: Gate,
    mass: Float[Array, " N"],
    teacher: Teacher,
    num_targets: int,
    is_item: Bool[Array, " N"],
) -> Float[Array, " N"]:
    """λ_t of every token.

    A gate that reads the distribution costs one more pass over the teacher's head, which is made a
    few hundred tokens at a time.

    Args:
      gate: as returned by `make_gate`.
      mass: item mass of the dialogue teacher.
      teacher: the dialogue teacher at the same tokens.
      num_targets: |Y|.
      is_item: whether the gold token y_t is an item.

    Raises:
      ValueError: the gate reads the distribution, of which the teacher has only a part.
    """
    known = {"is_item": is_item} if reads(gate, "is_item") else {}
    if not reads(gate, "log_probs"):
        return gate(mass, **known)
    if isinstance(teacher, TeacherTopK):
        raise ValueError(
            "A gate that reads log_probs needs the whole distribution of the dialogue teacher, got "
            "its most probable targets alone (TeacherTopK). Give TeacherFeatures or TeacherLogits."
        )
    # The capacity of a batch need not be a multiple of 256, and chunks must have one size.
    size = math.gcd(mass.shape[0], TOKENS_AT_A_TIME)

    def chunk(start):
        probs, _ = teacher.chunk(start, size).probs(num_targets)
        floor = jnp.finfo(probs.dtype).tiny  # keeps p log p at 0, not nan, where p underflows
        log_probs = jnp.log(jnp.maximum(probs, floor))
        here = {name: take_rows(values, start, size) for name, values in known.items()}
        return gate(take_rows(mass, start, size), log_probs=log_probs, **here)

    return lax.map(chunk, jnp.arange(0, mass.shape[0], size, dtype=jnp.int32)).reshape(-1)


def find_gate(name: str) -> Callable:
    """Looks up a gate function by the name that a config gives; its parameters are not bound.

    Raises:
      ValueError: no such gate.
    """
    if name in GATES:
        return GATES[name]
    known = (
        f"Known gates: {', '.join(sorted(GATES))}. A gate of your own is named "
        "package.module:function."
    )
    if ":" not in name:
        raise ValueError(f"No gate is called {name!r}. {known}")
    try:
        found = own_code.find(name)
    except LookupError as error:
        raise ValueError(f"No gate was found at {name!r}: {error}. {known}") from error
    # Only a function has the source text that a student's fingerprint covers.
    if not inspect.isfunction(inspect.unwrap(found)):
        raise ValueError(
            f"The gate {name!r} is a {type(found).__name__}; expected a function, written with def."
        )
    return found


def _check_probability(gate: str, name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(
            f"The {gate} gate's {name} is a probability and must lie in [0, 1]; got {value}."
        )
