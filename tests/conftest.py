"""The one place where tests start TFF's execution context, for modules that use the fixture `execution_context`."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def execution_context() -> Iterator[None]:
    from tff_rec.simulation import execution

    execution.start()
    yield
    execution.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drops `test_session`, a deprecated helper that every `tf.test.TestCase` inherits and that skips itself."""
    items[:] = [item for item in items if item.name != "test_session"]
