# SPDX-License-Identifier: BSD-2-Clause
"""How long anybody was inside: time that threads share counts once."""

import threading
import time


class Stopwatch:
    """A context manager for any number of threads.

    Attributes
    ----------
    seconds : float
        Time in which at least one thread was inside; counted when the last one has left.
    """

    def __init__(self):
        self.seconds = 0.0
        self._lock, self._inside, self._since = threading.Lock(), 0, 0.0

    def __enter__(self):
        with self._lock:
            if not self._inside:
                self._since = time.perf_counter()
            self._inside += 1
        return self

    def __exit__(self, *_):
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self.seconds += time.perf_counter() - self._since
