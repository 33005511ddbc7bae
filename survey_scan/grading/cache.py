"""The pictures that were asked for last, within a number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Hashable


class Cache:
    """Least recently used entries go first; for use from several threads.

    Parameters
    ----------
    limit : int
        Bytes of all entries together.
    """

    def __init__(self, limit: int):
        self.limit = limit
        #: Bytes of the entries there are.
        self.size = 0
        self._entries: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> bytes | None:
        """An entry, if it is there."""
        with self._lock:
            data = self._entries.get(key)
            if data is not None:
                self._entries.move_to_end(key)
            return data

    def put(self, key: Hashable, data: bytes) -> None:
        """Keep an entry, and let others go."""
        with self._lock:
            before = self._entries.pop(key, b"")
            self._entries[key] = data
            self.size += len(data) - len(before)
            while self.size > self.limit:
                _, gone = self._entries.popitem(last=False)
                self.size -= len(gone)
