"""Progress of a transfer on stderr: a bar on a terminal, now and then a line elsewhere."""

import shutil
import sys
import time
from collections import deque

BAR_SECONDS = 0.1  # between two drawings of the bar
LINE_SECONDS = 10.0  # between two lines where there is no terminal
RATE_SECONDS = 10.0  # the rate shown is that of the last so many
MARK_SECONDS = 0.5  # between two points that the rate is taken from


def say(text):
    print(text, file=sys.stderr, flush=True)


def human_bytes(n):
    """1234567 -> '1.2 MB'. Decimal units, as disks and networks are sold."""
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" or n >= 100 else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.2f} GB"


def human_seconds(s):
    s = int(s + 0.5)
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60:02d} s"
    return f"{s // 3600} h {s % 3600 // 60:02d} min"


class Progress:
    """One transfer of `total` bytes, `done` of them there before it began."""

    def __init__(self, label, total, done=0, stream=None, clock=time.monotonic):
        self.label = label
        self.total = total
        self.done = done
        self._first = done
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._start_s = clock()
        self._shown_s = self._start_s
        self._marks = deque()  # (time, done), oldest first; from the first byte that came
        self._terminal = self._stream.isatty()
        self._open_line = False

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.finish(kind is None)

    def advance(self, n):
        self.set(self.done + n)

    def set(self, done, total=None):
        self.done = done
        if total is not None:
            self.total = total
        now_s = self._clock()
        self._mark(now_s)
        wait_s = BAR_SECONDS if self._terminal else LINE_SECONDS
        if now_s - self._shown_s < wait_s:
            return
        self._shown_s = now_s
        if self._terminal:
            self._draw(self._text(now_s, bar=True))
        else:
            print(self._text(now_s, bar=False), file=self._stream, flush=True)

    def finish(self, whole):
        """Ends the line; says how long it took where everything came."""
        seconds = max(self._clock() - self._start_s, 1e-6)
        if whole:
            moved = self.done - self._first
            text = (f"{self.label}: {human_bytes(self.done)} in {seconds:.1f} s"
                    f" ({human_bytes(moved / seconds)}/s)")
            if self._terminal:
                self._draw(text)
            else:
                print(text, file=self._stream, flush=True)
        if self._open_line:
            print(file=self._stream, flush=True)
            self._open_line = False

    def _mark(self, now_s):
        if not self._marks or now_s - self._marks[-1][0] >= MARK_SECONDS:
            self._marks.append((now_s, self.done))
        while len(self._marks) > 1 and now_s - self._marks[0][0] > RATE_SECONDS:
            self._marks.popleft()

    def _rate(self, now_s):
        then_s, done = self._marks[0]
        return max(self.done - done, 0) / max(now_s - then_s, 1e-6)

    def _text(self, now_s, bar):
        rate = self._rate(now_s)
        part = min(self.done / self.total, 1.0) if self.total else 0.0
        text = f"{human_bytes(self.done)} of {human_bytes(self.total)} {part:4.0%}"
        text += f"  {human_bytes(rate)}/s"
        if rate > 0 and self.total > self.done:
            text += f"  {human_seconds((self.total - self.done) / rate)} left"
        if not bar:
            return f"{self.label}: {text}"
        room = shutil.get_terminal_size().columns - len(self.label) - len(text) - 6
        width = min(room, 30)
        if width >= 5:
            full = int(part * width)
            text = "[" + "#" * full + "." * (width - full) + "] " + text
        return f"{self.label} {text}"

    def _draw(self, text):
        columns = shutil.get_terminal_size().columns
        self._stream.write("\r" + text[:columns - 1] + "\x1b[K")
        self._stream.flush()
        self._open_line = True
