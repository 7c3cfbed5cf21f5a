"""Numbers and texts as figures write them."""

from conkd_jax.eval.figures.style import short_number


def test_short_numbers_keep_their_sign_and_size():
    assert short_number(1.5) == "1.500"
    assert short_number(0.0) == ".000"
