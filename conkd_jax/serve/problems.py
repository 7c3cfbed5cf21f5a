"""The error of a request that can't be answered, with its HTTP status."""

from __future__ import annotations

from collections.abc import Mapping

from conkd_jax.errors import UserError


class RequestError(UserError):
    """A request that can't be answered.

    Attributes:
      status: the HTTP status.
      code: what is wrong, for programs.
      headers: of the response.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ):
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers or {})
