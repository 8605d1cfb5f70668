"""Names that arguments have at the peers, for scripts that come from there.

A peer's name does not transpose a tensor: SpikingJelly's ``x_seq`` has time first, and here time stays last under that
name too. So a function has such a name only if a tensor with time first does not fit its other arguments and raises an
error, unless sizes agree by chance; a function that would compute something for any tensor does not have it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

__all__ = ["also_called"]

P = ParamSpec("P")
R = TypeVar("R")


def also_called(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: keyword arguments may also have a peer's names.

    Args:
        names: of this library, by the peer's.

    >>> @also_called(x_seq="x")
    ... def double(x):
    ...     return 2 * x
    >>> double(x_seq=2)
    4
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            for theirs, ours in names.items():
                if theirs in kwargs:
                    if ours in kwargs:
                        raise TypeError(f"Expected one of the arguments `{ours}` and `{theirs}` but got both.")
                    kwargs[ours] = kwargs.pop(theirs)
            return function(*args, **kwargs)

        return called

    return decorate
