"""A small cache of answers to frequent questions: least recently used goes first, a changed subject misses."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

T = TypeVar("T")
ANSWER_BYTES: Final = 500  # of one small answer with its key


class QueryCache:
    """Answers by question, each with the version of its subject at the time; not for large answers."""

    def __init__(self, size: int) -> None:
        self.hits = 0
        self.misses = 0
        self._size = size
        self._answers: OrderedDict[Hashable, tuple[Hashable, Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def nbytes(self) -> int:
        """Bytes held, about."""
        return len(self._answers) * ANSWER_BYTES

    def get(self, question: Hashable, version: Hashable, answer: Callable[[], T]) -> T:
        """The remembered answer if it was made for the same `version`, or else `answer()`."""
        known = self._answers.get(question)
        if known is not None and known[0] == version:
            self.hits += 1
            self._answers.move_to_end(question)
            remembered: T = known[1]
            return remembered
        self.misses += 1
        fresh = answer()
        self._answers[question] = (version, fresh)
        self._answers.move_to_end(question)
        if len(self._answers) > self._size:
            self._answers.popitem(last=False)
        return fresh
