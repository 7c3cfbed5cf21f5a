"""What a traced program computes, and in which types."""

import jax


def equations(jaxpr):
    """All equations of a program, those of its inner programs included."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def types_of(program, name: str) -> set[str]:
    """The types that a primitive computes in."""
    return {
        str(equation.invars[0].aval.dtype)
        for equation in equations(program.jaxpr)
        if equation.primitive.name == name
    }
