"""The error of a request that can't be answered, with its HTTP status."""

from __future__ import annotations

from collections.abc import Mapping

from conkd_jax.errors import UserError
from conkd_jax.serve import schema


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


def problem_of(error: Exception) -> tuple[int, schema.Problems, dict[str, str]]:
    """The status, the body and the headers that tell an error to a client.

    What a bug says stays in the log.
    """
    status, code, message = 500, "internal", "the server failed on this request; its log says where"
    headers: dict[str, str] = {}
    if isinstance(error, UserError):
        status, code, message = 422, "not_valid", str(error)
    if isinstance(error, RequestError):
        status, code, headers = error.status, error.code, error.headers
    return status, schema.Problems(error=schema.Problem(code=code, message=message)), headers
