"""Names that arguments have at the peers, for scripts that come from there.

A name does not turn a tensor around: SpikingJelly's ``x_seq`` has time first, here time stays last under that name too.
It is taken where a tensor with time first meets an error, unless its sizes agree by chance, and not where any would do.
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
