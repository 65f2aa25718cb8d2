"""The one place where tests start TFF's execution context, for modules that use the fixture `execution_context`."""

import pytest


@pytest.fixture(scope="module")
def execution_context() -> None:
    """Starts the worker unless it runs; it ends with Python, or with the simulation that a test runs."""
    from tff_rec.simulation import execution

    execution.start()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps together what shares a set-up, puts whole runs first, and drops a deprecated helper.

    Tests of a class with a `setUpClass` of its own go to one process, and so do those that are marked `xdist_group`:
    what they share is made once. `tests/simulation` and `tests/scripts` have the longest tests and go first, so that no
    process is left alone with one of them at the end. `test_session` is inherited from `tf.test.TestCase` and skips
    itself.
    """
    items[:] = [item for item in items if item.name != "test_session"]
    items.sort(key=lambda item: item.path.parent, reverse=True)
    for item in items:
        owner = getattr(item, "cls", None)
        if owner is not None and "setUpClass" in vars(owner):
            item.add_marker(pytest.mark.xdist_group(owner.__name__))
