# SPDX-License-Identifier: ISC
"""A bar chart as SVG: groups of bars on a logarithmic axis of milliseconds, readable on light and on dark pages."""
import math
from html import escape

STYLE = """
  .page { fill: #ffffff } text { fill: #1c2733; font-family: system-ui, sans-serif; font-size: 13px }
  .title { font-size: 17px; font-weight: 600 } .group { font-size: 14px; font-weight: 600 } .small, .axis { font-size: 11px }
  .grid { stroke: #d7dde3; stroke-width: 1 } .axis, .small { fill: #5b6875 }
  .native { fill: #8a949e } .other { fill: #b3a06a } .boot { fill: #5b9bd5 } .restore { fill: #1f7a4d } .value { font-variant-numeric: tabular-nums }
  @media (prefers-color-scheme: dark) {
    .page { fill: #14191f } text { fill: #e3e9ef } .grid { stroke: #2f3943 } .axis, .small { fill: #97a4b0 }
    .native { fill: #8a949e } .other { fill: #c9b577 } .boot { fill: #6fb0ea } .restore { fill: #43c783 }
  }
"""
LEFT, RIGHT, WIDTH, BAR, GAP, TOP = 202, 90, 920, 20, 44, 74


def kind(system):
    return "native" if system == "native" else next((k for k in ("boot", "restore") if system.startswith(k)), "other")


def label(ms):
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.0f} ms" if ms >= 100 else f"{ms:.1f} ms"


def bars(title, groups):
    """groups: {name: {system: ms}}. A bar begins at the axis' left end, a power of ten below the least value or at it."""
    values = [v for g in groups.values() for v in g.values()]
    if not values:
        return '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>\n'
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    height = TOP + sum(GAP + BAR * len(g) for g in groups.values()) + 26

    def x(ms):
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(ms) - low) / (high - low)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
           f"<title>{escape(title)}</title><style>{STYLE}</style>", f'<rect class="page" width="{WIDTH}" height="{height}"/>',
           f'<text class="title" x="16" y="28">{escape(title)}</text>',
           '<text class="small" x="16" y="47">median, logarithmic axis, shorter is better; all measured in turn in one run</text>']
    for power in range(low, high + 1):
        for step in range(1, 10 if power < high else 2):
            at = x(step * 10 ** power)
            if step == 1:
                out.append(f'<line class="grid" x1="{at:.1f}" y1="{TOP - 8}" x2="{at:.1f}" y2="{height - 26}"/>')
                name = f"{10 ** power:g} ms" if power < 3 else f"{10 ** (power - 3):g} s"
                out.append(f'<text class="axis" x="{at:.1f}" y="{height - 9}" text-anchor="middle">{name}</text>')
            elif step in (2, 5):
                out.append(f'<line class="grid" x1="{at:.1f}" y1="{height - 32}" x2="{at:.1f}" y2="{height - 26}"/>')
    y = TOP
    for name, systems in groups.items():
        y += GAP - 18
        out.append(f'<text class="group" x="16" y="{y - 7}">{escape(name)}</text>')
        for system, ms in systems.items():
            out.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(system)}</text>')
            out.append(f'<rect class="{kind(system)}" x="{LEFT}" y="{y + 2}" width="{max(1.0, x(ms) - LEFT):.1f}" height="{BAR - 4}" rx="2"/>')
            out.append(f'<text class="value" x="{x(ms) + 6:.1f}" y="{y + 14}">{label(ms)}</text>')
            y += BAR
        y += 18
    return "\n".join([*out, "</svg>"]) + "\n"
