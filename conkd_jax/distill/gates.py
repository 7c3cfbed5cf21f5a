"""Which teacher speaks at this step: the gate lambda_t, from the dialogue teacher's item mass.

The dialogue teacher, reading the gold response so far, spreads its next token over words and
items. Where much of that mass lies on items, a recommendation is due, and the recommender's
knowledge is worth more than the language model's (paper section 2.3). lambda_t = 0 listens to the
dialogue teacher alone, lambda_t = 1 to the recommender alone.

A gate is one pure function of the mass, so adding one takes three lines::

    @register_gate("square")
    def square_gate(mass, *, scale=1.0):
        return scale * mass**2

and a config may also name a function that lives elsewhere, "package.module:function". A gate that
has a parameter `log_probs` is given the dialogue teacher's whole distribution beside its mass.
This file must not know where the mass comes from, nor what the gate is used for.
"""

import functools
import inspect
import math
import pkgutil
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from conkd_jax.distill.head import accumulation_dtype
from conkd_jax.distill.teachers import Teacher, take_rows
from conkd_jax.typing import Array, Float

Gate = Callable[..., Float[Array, "*N"]]  # of the mass, and of `log_probs` where it asks for them
TOKENS_AT_A_TIME = 256  # whose log-probabilities exist at once

GATES: dict[str, Callable] = {}


def register_gate(name: str) -> Callable[[Callable], Callable]:
    """Decorator: enter ``function(mass, **params) -> gate`` in GATES under a name for configs."""

    def register(function: Callable) -> Callable:
        if name in GATES:
            raise ValueError(
                f"The gate {name!r} exists already ({GATES[name].__module__}); choose another name."
            )
        GATES[name] = function
        return function

    return register


def item_mass(logits: Float[Array, "*N Y"], num_words: int) -> Float[Array, "*N"]:
    """Probability that the next token is an item.

    sum over y' in I of P_phi(y' | y_<t, x), the sum in eqs. 6 and 7. The largest logit is taken
    off first, so that none overflows and the difference of two large logsumexps rounds nothing.

    Args:
        logits: of the dialogue teacher; words come first, items after them.
        num_words: |V|, where the items begin.

    Returns:
        Values in [0, 1]; float32, or float64 for float64 logits.
    """
    logits = logits.astype(accumulation_dtype(logits.dtype))
    likelihoods = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    words = jnp.sum(likelihoods[..., :num_words], axis=-1)
    items = jnp.sum(likelihoods[..., num_words:], axis=-1)
    return items / (words + items)


@register_gate("hard")
def hard_gate(mass: Float[Array, "*N"], *, eta: float) -> Float[Array, "*N"]:
    """One teacher or the other: lambda_t = 0 if mass < eta else 1 (eq. 6).

    Args:
        mass: item mass of the dialogue teacher.
        eta: the threshold; the paper's DialoGPT row uses .6.

    Raises:
        ValueError: eta is not a probability.
    """
    _check_probability("hard", "eta", eta)
    return (mass >= jnp.asarray(eta, mass.dtype)).astype(mass.dtype)


@register_gate("soft")
def soft_gate(mass: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """Both teachers, in the proportion of the mass: lambda_t = mass (eq. 7)."""
    return mass


@register_gate("constant")
def constant_gate(mass: Float[Array, "*N"], *, value: float) -> Float[Array, "*N"]:
    """The context ignored: lambda_t = value at every step.

    0 is the paper's ablation (+)D, 1 is (+)R and .5 its last row (Table 5).

    Raises:
        ValueError: value is not a probability.
    """
    _check_probability("constant", "value", value)
    return jnp.full_like(mass, value)


def make_gate(name: str, **params) -> Gate:
    """The gate a config names, its parameters filled in and tried once, on a few masses.

    Args:
        name: an entry of GATES ("hard", "soft", "constant", ...) or "package.module:function".
        params: the function's keyword arguments, such as ``eta=.6``.

    Returns:
        A function of the mass, and of ``log_probs`` where `reads_log_probs`.

    Raises:
        ValueError: no such gate, a parameter it does not take or lacks, a value it refuses, or a
            result that is not one number from 0 to 1 for each mass.

    Example:
        >>> gate = make_gate("hard", eta=0.6)
        >>> gate(jnp.array([0.2, 0.6, 0.9]))
        Array([0., 1., 1.], dtype=float32)
    """
    gate = functools.partial(find_gate(name), **params)
    mass = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    log_probs = jax.ShapeDtypeStruct((2, 3, 5), jnp.float32)
    try:
        given = {"log_probs": log_probs} if reads_log_probs(gate) else {}
        result = jax.eval_shape(gate, mass, **given)
    except (TypeError, ValueError) as error:  # ValueError: a keyword that the signature lacks
        raise ValueError(
            f"The gate {name!r}, given {mass.shape} masses and {params}, failed: {error}"
        ) from error
    if getattr(result, "shape", None) != mass.shape or result.dtype != mass.dtype:
        raise ValueError(
            f"The gate {name!r} must return one {mass.dtype.name} for each mass: "
            f"for {mass.shape} it returned {result}."
        )
    masses = jnp.linspace(0.0, 1.0, 6).reshape(mass.shape)
    tilted = jax.nn.log_softmax(jnp.sin(jnp.arange(30.0)).reshape(log_probs.shape))
    found = gate(masses, **dict.fromkeys(given, tilted))
    if not bool(((found >= 0) & (found <= 1)).all()):  # nan is neither
        raise ValueError(
            f"The gate {name!r} must return numbers from 0 to 1, the recommender's share of the "
            f"target: for masses {masses.ravel().tolist()} it returned {found.ravel().tolist()}."
        )
    return gate


def reads_log_probs(gate: Callable) -> bool:
    """Whether a gate takes log P_phi(. | y_<t, x) [*N, Y] beside the mass."""
    return "log_probs" in inspect.signature(gate).parameters


def open_gate(
    gate: Gate, mass: Float[Array, " N"], teacher: Teacher, num_targets: int
) -> Float[Array, " N"]:
    """lambda_t of every token: by its mass alone, or by the teacher's distribution if it is asked.

    The distribution costs a gate that reads it one more pass over the teacher's head, a few hundred
    tokens at a time.

    Args:
        gate: as `make_gate` returns it.
        mass: item mass of the dialogue teacher, of all N tokens.
        teacher: the dialogue teacher of the same tokens.
        num_targets: |Y|.
    """
    if not reads_log_probs(gate):
        return gate(mass)
    size = math.gcd(mass.shape[0], TOKENS_AT_A_TIME)

    def chunk(start):
        probs, _ = teacher.chunk(start, size).probs(num_targets)
        floor = jnp.finfo(probs.dtype).tiny  # so that p log p is 0, and no nan, where p underflows
        log_probs = jnp.log(jnp.maximum(probs, floor))
        return gate(take_rows(mass, start, size), log_probs=log_probs)

    return lax.map(chunk, jnp.arange(0, mass.shape[0], size, dtype=jnp.int32)).reshape(-1)


def find_gate(name: str) -> Callable:
    """The function that a config names, its parameters still open.

    Raises:
        ValueError: no such gate.
    """
    if name in GATES:
        return GATES[name]
    known = f"Known gates: {', '.join(sorted(GATES))}; or name your own as package.module:function."
    if ":" not in name:
        raise ValueError(f"No gate is called {name!r}. {known}")
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"No gate was found at {name!r}: {error}. {known}") from error
    if not inspect.isfunction(inspect.unwrap(found)):
        raise ValueError(
            f"The gate {name!r} is a {type(found).__name__}; expected a function, written with def."
        )
    return found


def _check_probability(gate: str, name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(
            f"The {gate} gate's {name} is compared with a probability, so it must lie in [0, 1]; "
            f"got {value}."
        )
