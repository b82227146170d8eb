"""What the tests of bad input have in common."""

import os

import pytest

from formats.files import InputError


def cases(names, table):
    """Parametrizes a test by a table whose first column says what each row is."""
    return pytest.mark.parametrize(names, [pytest.param(*row, id=name) for name, *row in table])


def told(names, table):
    """Parametrizes a test by a table whose last column is what the error says."""
    return pytest.mark.parametrize(names, [pytest.param(*row, id=row[-1]) for row in table])


def refused(call, *args, **named):
    """The InputError that `call` must raise: one line."""
    with pytest.raises(InputError) as caught:
        call(*args, **named)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return caught.value


def line_of(call, *args, **named):
    """The message of the InputError that `call` must raise: one line."""
    return str(refused(call, *args, **named))


class Evil:
    """Makes a pickle that calls a function when it is opened without care."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def malice(folder):
    """What, unpickled by the usual means, makes the file `executed` in the folder."""
    return Evil(os.system, f"touch {folder / 'executed'}")
