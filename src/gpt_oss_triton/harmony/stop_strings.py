"""Finding stop strings in text that arrives in pieces."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class StopStrings:
    """Aho-Corasick over characters: constant work per character however many strings there are.

    The string that is complete first wins, which does not depend on how the text is cut; of several
    complete at the same character, the longest.

    Args:
        strings: each at least one character.

    Attributes:
        found: the stop string in the text so far.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self.found: str | None = None
        # Node 0 is the root; each node stands for the beginning of a string that leads to it.
        self._next: list[dict[str, int]] = [{}]
        self._depth = [0]
        self._ends: list[str | None] = [None]  # longest stop string that the node's text ends with
        self._fallback = [0]  # node of the longest proper suffix that begins a string too
        for string in strings:
            self._insert(string)
        self._link()
        self._first = frozenset(self._next[0])
        self._node = 0
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be shown: up to the stop string, or to what may become one."""
        text = self._held + text[: self._read(text)]
        end = len(text) - (len(self.found) if self.found else self._depth[self._node])
        self._held = text[end:]
        return text[:end]

    def flush(self) -> str:
        """What was held back, when the text ends here. The next text starts afresh."""
        held, self._held, self._node = self._held, "", 0
        return held

    def _read(self, text: str) -> int:
        """Walk to the end of the text or of the first stop string; the characters walked."""
        if self._node == 0 and self._first.isdisjoint(text):
            return len(text)
        for index, character in enumerate(text):
            self._node = self._step(self._node, character)
            self.found = self._ends[self._node]
            if self.found is not None:
                return index + 1
        return len(text)

    def _step(self, node: int, character: str) -> int:
        while node and character not in self._next[node]:
            node = self._fallback[node]
        return self._next[node].get(character, 0)

    def _insert(self, string: str) -> None:
        node = 0
        for character in string:
            child = self._next[node].get(character)
            if child is None:
                child = self._next[node][character] = len(self._next)
                self._next.append({})
                self._depth.append(self._depth[node] + 1)
                self._ends.append(None)
                self._fallback.append(0)
            node = child
        self._ends[node] = string

    def _link(self) -> None:
        queue = deque(self._next[0].values())
        while queue:
            node = queue.popleft()
            self._ends[node] = self._ends[node] or self._ends[self._fallback[node]]
            for character, child in self._next[node].items():
                self._fallback[child] = self._step(self._fallback[node], character)
                queue.append(child)
