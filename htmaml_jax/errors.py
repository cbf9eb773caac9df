"""The one exception a person is meant to read."""


class UserError(Exception):
    """Says what was wrong and what to do, in one line.

    The doors print the message without a traceback and exit with 2.
    """
