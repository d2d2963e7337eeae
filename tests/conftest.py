"""What every test may use."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests (``@pytest.mark.anyio``) and async fixtures of any scope run on asyncio."""
    return "asyncio"
