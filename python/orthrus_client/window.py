"""How many requests may be under way: additive increase, multiplicative decrease.

A request that goes well adds 1/window, a whole round of them one; a refusal halves the window, once
for all requests that were under way at the time (Chiu and Jain 1989)."""

import threading


class Window:
    def __init__(self, most, start=2):
        self.most = most
        self.size = float(min(start, most))
        self._under_way = 0
        self._round = 0  # refusals so far; a request remembers the one it began in
        self._changed = threading.Condition()

    def acquire(self):
        """Waits for a place; gives what release() wants back."""
        with self._changed:
            while self._under_way >= int(self.size):
                self._changed.wait()
            self._under_way += 1
            return self._round

    def release(self, began_in, refused):
        with self._changed:
            self._under_way -= 1
            if not refused:
                self.size = min(self.most, self.size + 1 / self.size)
            elif began_in == self._round:
                self.size = max(1.0, self.size / 2)
                self._round += 1
            self._changed.notify_all()
