"""Fixtures for every test."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread() -> Iterator[None]:
    """As `compare` and `infer` run: on a busy machine BLAS threads wait for one another."""
    with threadpool_limits(1):
        yield
