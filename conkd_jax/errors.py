"""The base of every error that a user can mend.

An error of this kind is a message: it says what was expected, what was found, where, and what to
do. A program prints it as one line and ends with exit code 2 (`conkd_jax.command_line`). Any other
exception is a defect of the program and keeps its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """Something in what the user gave, or on the user's disk, that the program can't work with."""
