#!/usr/bin/env python3
"""Draws what `megakernel load --json` measured: SVG files for a browser. Standard library only.

    megakernel load --concurrency 1,2,4,8 --calls 200 --json > runs.jsonl
    clients/load/plot.py runs.jsonl OUT_FOLDER

Writes ttft.svg, itl.svg and e2e.svg (the distribution of each run: which share of calls or tokens took at most so long),
and, of two runs or more, throughput.svg (tokens a second against the time per token, p50 and p99: the knee is where more
load no longer gives more tokens).
"""

import json
import math
import os
import sys

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#999999']
TITLES = {'ttft_ms': 'time to first token', 'itl_ms': 'time between tokens', 'e2e_ms': 'time to last token'}


def escape(text):
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')


def ticks(low, high, count=6):
    """Round values from low to high."""
    if high <= low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= count)
    first = math.ceil(low / step) * step
    return [first + i * step for i in range(int((high - first) / step + 1e-9) + 1)]


class Chart:
    def __init__(self, title, x_title, y_title, x_max, y_max):
        self.x_max, self.y_max = x_max or 1, y_max or 1
        self.lines = 0
        self.body = [f'<text x="{LEFT}" y="24" font-size="16">{escape(title)}</text>',
                     f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_title)}</text>',
                     f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
                     f'text-anchor="middle">{escape(y_title)}</text>']
        for value in ticks(0, self.x_max):
            x, _ = self.at(value, 0)
            self.body.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>'
                             f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>')
        for value in ticks(0, self.y_max):
            _, y = self.at(0, value)
            self.body.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                             f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')

    def at(self, x, y):
        return (LEFT + min(x / self.x_max, 1) * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - min(y / self.y_max, 1) * (HEIGHT - TOP - BOTTOM))

    def line(self, label, points, marks=()):
        colour = COLOURS[self.lines % len(COLOURS)]
        path = ' '.join('%.1f,%.1f' % self.at(x, y) for x, y in points)
        self.body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), mark in zip(points, marks):
            px, py = self.at(x, y)
            self.body.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>'
                             f'<text x="{px + 5:.1f}" y="{py - 5:.1f}" font-size="10">{escape(mark)}</text>')
        y = TOP + 14 + 18 * self.lines
        self.body.append(f'<rect x="{WIDTH - RIGHT + 12}" y="{y - 9}" width="12" height="4" fill="{colour}"/>'
                         f'<text x="{WIDTH - RIGHT + 30}" y="{y - 3}">{escape(label)}</text>')
        self.lines += 1

    def save(self, path):
        with open(path, 'w', encoding='utf-8') as file:
            file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
                       f'font-size="12"><rect width="100%" height="100%" fill="#fff"/>{"".join(self.body)}</svg>\n')


def name(run):
    return f"{run['rate']:g} calls/s" if run['loop'] == 'open' else f"{run['concurrency']:g} callers"


def distribution(runs, key, path):
    # The axis ends at the slowest run's p99: a single straggler must not flatten all curves.
    chart = Chart(TITLES[key], 'ms', 'share', max(run[key]['p99'] for run in runs) * 1.05, 1)
    for run in runs:
        curve = run['curves'][key]
        chart.line(name(run), [(value, i / (len(curve) - 1)) for i, value in enumerate(curve)])
    chart.save(path)


def throughput(runs, path):
    chart = Chart('throughput against time per token', 'tokens/s', 'ms per token (tpot)',
                  max(run['tokens_per_s'] for run in runs) * 1.1, max(run['tpot_ms']['p99'] for run in runs) * 1.1)
    for quantile in ('p50', 'p99'):
        chart.line(quantile, [(run['tokens_per_s'], run['tpot_ms'][quantile]) for run in runs], [name(run) for run in runs])
    chart.save(path)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding='utf-8') as file:
        runs = [json.loads(line) for line in file if line.strip()]
    measured = [run for run in runs if run.get('ok', 0) > run.get('slow', 0)]
    if not measured:
        sys.exit(f'{sys.argv[1]}: no run with a call that ended well')
    os.makedirs(sys.argv[2], exist_ok=True)
    for key in TITLES:
        runs_with = [run for run in measured if run[key]['count'] > 0]
        if runs_with:
            distribution(runs_with, key, os.path.join(sys.argv[2], key[:-3] + '.svg'))
    if len(measured) > 1:
        throughput(measured, os.path.join(sys.argv[2], 'throughput.svg'))


if __name__ == '__main__':
    main()
