"""Line charts as small SVG files that follow the reader's light or dark theme. Used by bench/report.py."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 72, 150, 48, 56
LABEL_GAP = 16  # between two lines' names
# Colour-blind safe on white and on near black (after Okabe and Ito), with marks that differ too.
COLOURS = [("#0072b2", "#56b4e9"), ("#b84a00", "#ff9d5c"), ("#00795c", "#2fd6a8"), ("#a8447f", "#ee9fcb"),
           ("#6b6b6b", "#b5b5b5")]
STYLE = """
text{font:13px system-ui,sans-serif;fill:#222}.title{font-size:15px;font-weight:600}.note{fill:#666}
.grid{stroke:#ddd}.line{fill:none;stroke-width:2}.fit{fill:none;stroke-width:1;stroke-dasharray:4 4}"""


def style():
    light = "".join(f".s{i}{{stroke:{c}}}.m{i}{{fill:{c}}}" for i, (c, _) in enumerate(COLOURS))
    dark = "".join(f".s{i}{{stroke:{c}}}.m{i}{{fill:{c}}}" for i, (_, c) in enumerate(COLOURS))
    return (f"<style>{STYLE}{light}@media(prefers-color-scheme:dark){{text{{fill:#ddd}}.note{{fill:#999}}"
            f".grid{{stroke:#444}}{dark}}}</style>")


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:g}"


class Axis:
    """Values → pixels from `begin` to `end`, linear or by powers."""

    def __init__(self, values, logarithmic, begin, end):
        self.log, self.begin, self.end = logarithmic, begin, end
        if logarithmic:
            self.low, self.high = min(values), max(values)
        else:
            self.low, self.high = 0, self.step(max(values)) * math.ceil(max(values) / self.step(max(values)))

    @staticmethod
    def step(largest):
        raw = largest / 5
        power = 10 ** math.floor(math.log10(raw))
        return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)

    def at(self, value):
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self):
        if not self.log:
            step = self.step(self.high)
            return [i * step for i in range(round(self.high / step) + 1)]
        out = [m * 10**p for p in range(-2, 6) for m in (1, 2, 5)]
        return [tick for tick in out if self.low <= tick <= self.high]


def mark(series, x, y):
    shape = series % 3
    if shape == 0:
        return f'<circle class="m{series}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    if shape == 1:
        return f'<rect class="m{series}" x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"/>'
    return f'<path class="m{series}" d="M{x:.1f} {y - 5:.1f}l5 8h-10z"/>'


def apart(positions):
    """The same heights in the same order, moved until names no longer overlap."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    out = list(positions)
    for before, after in zip(order, order[1:]):
        out[after] = max(out[after], out[before] + LABEL_GAP)
    return out


def chart(title, x_name, y_name, lines, x_ticks=None, log_x=False, log_y=False, fits=()):
    """SVG text. lines: [(name, [(x, y)…])]; fits: [(line's number, slope, offset)], drawn dashed."""
    values_x = [x for _, points in lines for x, _ in points]
    values_y = [y for _, points in lines for _, y in points]
    x_axis = Axis(values_x, log_x, LEFT, WIDTH - RIGHT)
    y_axis = Axis(values_y, log_y, HEIGHT - BOTTOM, TOP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">', style(),
           f"<title>{escape(title)}</title>", f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>',
           f'<text class="note" x="{LEFT}" y="38">{escape(y_name)}</text>',
           f'<text class="note" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">'
           f"{escape(x_name)}</text>"]
    for tick in y_axis.ticks():
        y = y_axis.at(tick)
        out.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
                   f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in x_ticks or x_axis.ticks():
        out.append(f'<text x="{x_axis.at(tick):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">'
                   f"{number(tick)}</text>")
    for series, slope, offset in fits:
        first, last = lines[series][1][0][0], lines[series][1][-1][0]
        out.append(f'<path class="fit s{series}" d="M{x_axis.at(first):.1f} {y_axis.at(offset + slope * first):.1f}'
                   f'L{x_axis.at(last):.1f} {y_axis.at(offset + slope * last):.1f}"/>')
    names = apart([y_axis.at(points[-1][1]) for _, points in lines])
    for series, (name, points) in enumerate(lines):
        spots = [(x_axis.at(x), y_axis.at(y)) for x, y in points]
        if not any(fit[0] == series for fit in fits):
            out.append(f'<path class="line s{series}" d="M{" ".join(f"{x:.1f} {y:.1f}" for x, y in spots)}"/>')
        out += [mark(series, x, y) for x, y in spots]
        out.append(f'<text class="m{series}" style="font-weight:600" x="{WIDTH - RIGHT + 12}" '
                   f'y="{names[series] + 4:.1f}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>", ""])
