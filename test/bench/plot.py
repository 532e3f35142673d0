"""Plots as SVG, written by hand: bars in groups, with whiskers from the smallest to the largest round."""
import math
import os
from xml.sax.saxutils import escape

from workloads import LATENCY_RATES

COLORS = ("#1b6ca8", "#e0803a", "#7a7a7a", "#b5b5b5", "#5a9e6f", "#a0568f")
WIDTH, HEIGHT = 860, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 50, 50


class Scale:
    """From a value to a height above the axis."""

    def __init__(self, low, high, logarithmic=False):
        self.logarithmic = logarithmic
        self.low, self.high = low, high

    def height(self, value):
        room = HEIGHT - TOP - BOTTOM
        if not self.logarithmic:
            return room * value / self.high
        return room * max(0, math.log10(max(value, self.low) / self.low)) / math.log10(self.high / self.low)

    def ticks(self):
        if self.logarithmic:
            return [10 ** i for i in range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)]
        step = 10 ** math.floor(math.log10(self.high))
        while self.high / step < 4:
            step /= 2
        return [step * i for i in range(int(self.high / step) + 1)]


def text(x, y, words, anchor="middle", size=12):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def label(value):
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def line(x1, y1, x2, y2, color="#333"):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>'


def rectangle(x, y, width, height, color):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{color}"/>'


def frame(title, scale, legend):
    base = HEIGHT - BOTTOM
    parts = [text(WIDTH / 2, 20, title, size=15)]
    for tick in scale.ticks():
        y = base - scale.height(tick)
        parts += [line(LEFT, y, WIDTH - RIGHT, y, "#ddd"), text(LEFT - 6, y + 4, f"{tick:g}", "end")]
    for i, name in enumerate(legend):
        x = LEFT + 10 + i * (WIDTH - LEFT - RIGHT) / max(5, len(legend))
        parts += [rectangle(x, 30, 10, 10, COLORS[i]), text(x + 15, 40, name, "start")]
    return parts


def group_places(groups):
    """(left edge, width) of each group of bars."""
    width = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    return [(LEFT + width * (i + 0.1), width * 0.8) for i in range(len(groups))]


def bars(title, groups, legend, scale):
    """groups: (name, [Spread or None by legend])"""
    base = HEIGHT - BOTTOM
    parts = frame(title, scale, legend)
    for (name, spreads), (left, width) in zip(groups, group_places(groups)):
        parts.append(text(left + width / 2, base + 18, name))
        for i, spread in enumerate(spreads):
            if spread:
                x, bar = left + width * i / len(legend), width / len(legend)
                height = scale.height(spread.median)
                parts += [rectangle(x, base - height, bar * 0.9, height, COLORS[i]),
                          line(x + bar * 0.45, base - scale.height(spread.low), x + bar * 0.45,
                               base - scale.height(spread.high)),
                          text(x + bar * 0.45, base - scale.height(spread.high) - 4, label(spread.median), size=10)]
    return parts


def stacks(title, groups, legend, scale):
    """groups: (name, [value by legend])"""
    base = HEIGHT - BOTTOM
    parts = frame(title, scale, legend)
    for (name, values), (left, width) in zip(groups, group_places(groups)):
        parts.append(text(left + width / 2, base + 18, name))
        y = base
        for i, value in enumerate(values):
            y -= scale.height(value)
            parts.append(rectangle(left, y, width, scale.height(value), COLORS[i]))
        parts.append(text(left + width / 2, y - 4, label(sum(values)), size=10))
    return parts


def write(directory, name, parts):
    with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
                   'font-family="sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n')
        file.write("\n".join(parts) + "\n</svg>\n")


def write_loading(results, directory, names):
    contenders = ("kafka_ingest", "python", "copy_text", "copy_binary")
    groups = [(workload, [results.ratios(workload, contender, "copy_text") for contender in contenders])
              for workload in results.loaded_workloads() if "copy_text" in results.contenders(workload)]
    if groups:
        high = max(spread.high for _, spreads in groups for spread in spreads if spread) * 1.05
        write(directory, "loading.svg", bars("rows per second / COPY text of the same round", groups,
                                             [names[contender] for contender in contenders], Scale(0, high)))


def write_latency(results, directory, names):
    series = [(contender, name) for contender in ("kafka_ingest", "python") for name in ("p50_ms", "p99_ms")]
    groups = [(f"{rate:,} messages/s", [results.latency(contender, rate, name) for contender, name in series])
              for rate in LATENCY_RATES]
    values = [spread.high for _, spreads in groups for spread in spreads if spread]
    if values:
        high = 10 ** math.ceil(math.log10(max(values)))
        legend = [f"{names[contender]} {name.removesuffix('_ms')}" for contender, name in series]
        write(directory, "latency.svg", bars("produce to commit, milliseconds", groups, legend, Scale(0.1, high, True)))


def write_batches(results, directory):
    groups = []
    for workload in results.loaded_workloads():
        times = results.microseconds_of_batches(workload)
        if times:
            known = [times.get(part, 0) for part in ("decode", "map", "write")]
            groups.append((workload, [times["collect"], *known, times["apply"] - sum(known), times["commit"]]))
    if groups:
        legend = ["collect", "decode", "map", "write", "rest of apply", "commit"]
        high = max(sum(values) for _, values in groups) * 1.1
        write(directory, "batches.svg", stacks("microseconds a message", groups, legend, Scale(0, high)))


def write_all(results, directory, names):
    write_loading(results, directory, names)
    write_latency(results, directory, names)
    write_batches(results, directory)
