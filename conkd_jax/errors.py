"""The base class of errors that a user can fix.

The message of such an error says what was expected, what was found, where, and what to do. Programs
print it as one line and end with exit code 2 (`conkd_jax.cli.command_line`). Any other exception is
a bug and keeps its traceback.
"""

from __future__ import annotations

LONGEST_MESSAGE = 8_000  # characters; a damaged file can have a field of megabytes


class UserError(Exception):
    """An input of the user, or a file on the user's disk, that the program can't work with."""

    def __str__(self) -> str:
        """The message; of one that is too long to be read, its two ends."""
        message = super().__str__()
        if len(message) <= LONGEST_MESSAGE:
            return message
        half = LONGEST_MESSAGE // 2
        cut = len(message) - 2 * half
        return f"{message[:half]} […{cut:,} characters…] {message[-half:]}"
