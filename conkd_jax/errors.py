"""The base class of errors that a user can fix.

The message of such an error says what was expected, what was found, where, and what to do. Programs
print it as one line and end with exit code 2 (`conkd_jax.command_line`). Any other exception is a
bug and keeps its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """An input of the user, or a file on the user's disk, that the program can't work with."""
