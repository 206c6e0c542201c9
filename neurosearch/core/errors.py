"""The errors that are the user's to mend: printed as one line, without a traceback."""


class InputError(Exception):
    """Bad input: the message names the file, row and column, or the config key."""


class AlarmError(InputError):
    """Nothing is wrong with the input, but something that is watched is past its limit."""


class SealedError(InputError):
    """Something outside the evaluation asked for the judgments of the test split."""


def first_line(error: BaseException) -> str:
    """What an exception of another library says, in one line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
