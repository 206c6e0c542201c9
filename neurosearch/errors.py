"""The one error that is the user's to mend: printed as one line, without a traceback."""


class InputError(Exception):
    """Bad input: the message names the file, row and column, or the config key."""
