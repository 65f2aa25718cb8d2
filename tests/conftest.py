"""The one place where tests start TFF's execution context, for modules that use the fixture `execution_context`."""

import pytest


@pytest.fixture(scope="module")
def execution_context() -> None:
    """Starts the worker unless it runs; it ends with Python, or with the simulation that a test runs."""
    from tff_rec.simulation import execution

    execution.start()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drops `test_session`, a deprecated helper that every `tf.test.TestCase` inherits and that skips itself."""
    items[:] = [item for item in items if item.name != "test_session"]
