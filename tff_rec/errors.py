"""The one exception that means "the input is wrong"; scripts print it as one sentence and exit with code 2."""


class InputError(ValueError):
    """Bad input from the person running tff_rec: the message says what is wrong, where, and what to do."""
