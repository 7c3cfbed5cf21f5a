"""Rates and hosts, without a server."""

import pytest

from conkd_jax.serve import limits
from conkd_jax.serve.problems import RequestError


def test_a_bucket_is_filled_again():
    time = [0.0]
    rate = limits.Rate(2.0, 3, lambda: time[0])
    for _ in range(3):
        rate.take("a")
    with pytest.raises(RequestError, match="3 requests at once and 2 a second"):
        rate.take("a")
    rate.take("b")  # another client
    time[0] = 0.5
    rate.take("a")
    with pytest.raises(RequestError):
        rate.take("a")
    time[0] = 100.0  # not more than the bucket holds
    for _ in range(3):
        rate.take("a")
    with pytest.raises(RequestError):
        rate.take("a")


def test_a_million_clients_fill_no_memory(monkeypatch):
    monkeypatch.setattr(limits, "MAX_CLIENTS", 100)
    rate = limits.Rate(1.0, 2, lambda: 0.0)
    for number in range(1000):
        rate.take(str(number))
    assert len(rate._buckets) <= 100


@pytest.mark.parametrize(
    "host", ["[", "[::1", "localhost@evil.example", "evil.example#localhost", "a:b:c"]
)
def test_hosts_that_are_none(host):
    with pytest.raises(RequestError):
        limits.expect_host(host, limits.LOOPBACK)


def test_hosts_on_loopback():
    for host in ("localhost", "127.0.0.1:80", "[::1]:8000"):
        limits.expect_host(host, limits.LOOPBACK)
