#!/usr/bin/env python3
"""Writes the results of bench.py as Markdown: medians with their range, and ratios against one plug-in.

    report.py RESULTS.jsonl --against envoy-l4
    report.py RESULTS.jsonl --hour                # how the machine was meanwhile: busy otherwise, slow to wake up, denied time
    report.py RESULTS.jsonl --svg martlet         # the ratios of one plug-in as a picture
"""

import argparse
import collections
import json
import statistics

from scenarios import SCENARIOS

# What a reader wants first: figure, and whether more is better.
HEADLINES = [
    ("t1_1", "gbit_s", True, "1 stream, Gbit/s"),
    ("t1_1", "cpu_s_per_gb", False, "1 stream, CPU s/GB (A+B)"),
    ("t1_8", "gbit_s", True, "8 streams, Gbit/s"),
    ("t1_8", "cpu_s_per_gb", False, "8 streams, CPU s/GB (A+B)"),
    ("t2_c1", "p50_us", False, "1 connection, p50 µs"),
    ("t2_c64", "rps", True, "64 connections, requests/s"),
    ("t2_c64", "p99_us", False, "64 connections, p99 µs"),
    ("t2_c64", "us_per_request", False, "64 connections, CPU µs/request (A+B)"),
    ("t2_r1000", "p99_us", False, "1000 requests/s, p99 µs"),
    ("t2_r1000", "cores", False, "1000 requests/s, cores (A+B)"),
    ("t3", "rps", True, "new connections/s"),
    ("t3", "us_per_connection", False, "CPU µs/connection (A+B)"),
    ("t5", "rps", True, "full handshakes/s"),
    ("t5", "us_per_connection", False, "CPU µs/handshake (A+B)"),
    ("t4_1000", "rss_mb_before", False, "RSS at rest, MB (A+B)"),
    ("t4_5000", "kb_per_connection", False, "KB per idle connection (A+B)"),
    ("t4_18000", "kb_per_connection", False, "KB per idle connection of 18 000 (A+B)"),
    ("t6", "rss_mb_late", False, "RSS after 1 000 000 connections, MB (A+B)"),
    ("w_h1", "rps", True, "64 connections, requests/s"),
    ("w_h1", "p99_us", False, "64 connections, p99 µs"),
    ("w_h1", "A_us_per_request", False, "64 connections, CPU µs/request"),
    ("w_r1000", "p99_us", False, "1000 requests/s, p99 µs"),
    ("w_r1000", "A_cores", False, "1000 requests/s, cores"),
    ("w_r5000", "p99_us", False, "5000 requests/s, p99 µs"),
    ("w_r5000", "A_cores", False, "5000 requests/s, cores"),
    ("w_h2", "rps", True, "HTTP/2, 100 streams, requests/s"),
    ("w_h2", "A_us_per_request", False, "HTTP/2, CPU µs/request"),
    ("w_grpc", "rps", True, "gRPC unary, 100 streams, calls/s"),
    ("w_grpc", "A_us_per_request", False, "gRPC unary, CPU µs/call"),
    ("w_bulk", "gbit_s", True, "one download, Gbit/s"),
    ("w_bulk", "A_cpu_s_per_gb", False, "one download, CPU s/GB"),
    ("w_idle_h1", "A_rss_mb_at_rest", False, "RSS at rest, MB"),
    ("w_routes", "A_rss_mb", False, "RSS with 5000 routes, MB"),
    ("w_idle_h1", "A_kb_per_connection", False, "KB per idle HTTP/1.1 connection"),
    ("w_idle_h2", "A_kb_per_connection", False, "KB per idle HTTP/2 connection"),
    ("w_churn", "p99_ms", False, "route change to first answer, p99 ms"),
    ("w_churn", "errors", False, "errors during route churn"),
    ("w_h1_5000", "A_us_per_request", False, "50 of 5000 routes, CPU µs/request"),
    ("w_h1_1x5000", "A_us_per_request", False, "5000 routes of one service, CPU µs/request"),
]
# What a waypoint has to reach, and what it should: in times of the other's figure (x), or as they are.
GOALS = [
    ("w_h1", "rps", "x", 1.5, 2),
    ("w_h1", "A_us_per_request", "x", 0.65, 0.5),
    ("w_r1000", "p99_us", "x", 1, None),
    ("w_r5000", "p99_us", "x", 1, None),
    ("w_h2", "rps", "x", 1.2, 2),
    ("w_grpc", "rps", "x", 1.2, 2),
    ("w_idle_h1", "A_rss_mb_at_rest", "", 25, 12),
    ("w_routes", "A_rss_mb", "", 60, 40),
    ("w_idle_h1", "A_kb_per_connection", "", 4, 1),
    ("w_idle_h2", "A_kb_per_connection", "", 4, 1),
    ("w_churn", "p99_ms", "", 30, 10),
    ("w_churn", "errors", "", 0, None),
    ("w_bulk", "gbit_s", "x", 1.5, 2),
]
# Measurements of memory: other programs do not disturb them.
UNDISTURBED = ("t4", "t6", "w_idle_h1", "w_idle_h2", "w_routes")


def load(path):
    """{(scenario, plugin): records}; disturbed ones only where there are no others."""
    found = collections.defaultdict(list)
    with open(path) as file:
        for line in file:
            record = json.loads(line)
            # A pair with the pool off stands for its proxy: it takes part in scenarios of its own only.
            plugin = record["plugin"].removesuffix("-nopool")
            found[record["scenario"], plugin].append(record)
    return {key: [r for r in records if not r["disturbed"]] or records for key, records in found.items()}


def value(figures, key):
    return figures[key] if key in figures else figures[f"A_{key}"] + figures[f"B_{key}"]


def median(records, key):
    return statistics.median(value(record["figures"], key) for record in records)


def number(x):
    return f"{x:,.0f}".replace(",", " ") if abs(x) >= 100 else f"{x:.3g}"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def headlines(results, plugins, against):
    yield row(["median", *plugins, *(f"{p} / {against}" for p in plugins if p != against)])
    yield row(["---"] * (2 * len(plugins) if against in plugins else len(plugins) + 1))
    for scenario, key, _, title in HEADLINES:
        medians = {p: median(results[scenario, p], key) for p in plugins if (scenario, p) in results}
        if not medians:
            continue
        cells = [title] + [number(medians[p]) if p in medians else "-" for p in plugins]
        if against in plugins:
            for plugin in plugins:
                if plugin != against:
                    known = plugin in medians and medians.get(against)
                    cells.append(f"{medians[plugin] / medians[against]:.2f}" if known else "-")
        yield row(cells)


def goals(results, plugin, against):
    """Whether the goals are reached; nothing where none was measured."""
    titles = {(scenario, key): (title, more) for scenario, key, more, title in HEADLINES}
    if not any((scenario, plugin) in results for scenario, *_ in GOALS):
        return
    yield row(["goal", "must", "aim", plugin, ""])
    yield row(["---"] * 5)
    for scenario, key, unit, must, aim in GOALS:
        title, more_is_better = titles[scenario, key]
        relation = "≥" if more_is_better else "≤"
        cells = [title] + [f"{relation} {goal:g}{unit}" if goal is not None else "" for goal in (must, aim)]
        needed = (plugin, against) if unit else (plugin,)
        if any((scenario, p) not in results for p in needed):
            yield row([*cells, "-", "not measured"])
            continue
        found = median(results[scenario, plugin], key)
        if unit:
            found /= median(results[scenario, against], key)
        reached = [goal is not None and (found >= goal if more_is_better else found <= goal) for goal in (must, aim)]
        mark = "*" if any(r["disturbed"] for p in needed for r in results[scenario, p]) else ""
        yield row([*cells, f"{found:.3g}{unit}{mark}", "aim" if reached[1] else "reached" if reached[0] else "**missed**"])
    yield ""


def picture(results, plugin, against):
    """An SVG of how many times better `plugin` is than `against`, figure by figure (1 = the same)."""
    bars = []
    for scenario, key, more_is_better, title in HEADLINES:
        if (scenario, plugin) in results and (scenario, against) in results:
            ours, theirs = (median(results[scenario, p], key) for p in (plugin, against))
            if ours > 0 and theirs > 0 and key != "errors":
                bars.append((title, ours / theirs if more_is_better else theirs / ours, ours, theirs))
    left, width, step = 320, 460, 26
    widest = 4.0
    height = 64 + step * len(bars)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 130} {height}" font-family="sans-serif" font-size="13">'
    yield f'<rect width="100%" height="100%" fill="white"/><text x="12" y="24" font-size="16">{plugin} beside {against}: times better (1 = the same)</text>'
    for index, (title, ratio, ours, theirs) in enumerate(bars):
        y = 44 + step * index
        length = width * min(ratio, widest) / widest
        colour = "#2b7a4b" if ratio >= 1 else "#b3402e"
        yield f'<text x="{left - 10}" y="{y + 13}" text-anchor="end">{title}</text>'
        yield f'<rect x="{left}" y="{y}" width="{length:.1f}" height="17" fill="{colour}"/>'
        yield f'<text x="{left + length + 6:.1f}" y="{y + 13}">{ratio:.2f}× ({number(ours)} : {number(theirs)})</text>'
    one = left + width / widest
    yield f'<line x1="{one}" y1="38" x2="{one}" y2="{height - 16}" stroke="#444" stroke-dasharray="4 3"/></svg>'


def details(results, plugins):
    for name, scenario in SCENARIOS.items():
        if not any((name, plugin) in results for plugin in plugins):
            continue
        yield from ("", f"### {name}: {scenario.title}", "")
        # What the hour was like: how long a sleeping core took to wake up, and how many cores the virtual machine was denied.
        timed = ["wake_us", "steal"] if not name.startswith(UNDISTURBED) else []
        yield row(["plug-in", "n", *scenario.figures, *timed])
        yield row(["---"] * (len(scenario.figures) + len(timed) + 2))
        for plugin in plugins:
            records = results.get((name, plugin))
            if not records:
                continue
            cells = [plugin, f"{len(records)}{'*' if any(r['disturbed'] for r in records) else ''}"]
            for key in [*scenario.figures, *timed]:
                values = sorted(r["account" if key in timed else "figures"].get(key, 0) for r in records)
                text = number(statistics.median(values))
                cells.append(text if values[0] == values[-1] else f"{text} ({number(values[0])}–{number(values[-1])})")
            yield row(cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results")
    parser.add_argument("--against", default="envoy-l4")
    parser.add_argument("--goals", metavar="PLUGIN", help="say whether it reaches them")
    parser.add_argument("--hour", action="store_true")
    parser.add_argument("--svg", metavar="PLUGIN")
    options = parser.parse_args()
    results = load(options.results)
    if options.hour:
        timed = [r["account"] for (scenario, _), records in results.items() for r in records if not scenario.startswith(UNDISTURBED)]
        for key, what in (("foreign", "Others used, in cores"), ("wake_us", "A sleeping core woke up in µs"), ("steal", "The machine was denied, in cores")):
            values = sorted(account[key] for account in timed if key in account)
            if values:
                print(f"- {what}: {statistics.median(values):.2f} ({values[0]:.2f}–{values[-1]:.2f})")
        return
    plugins = list(dict.fromkeys(plugin for _, plugin in results))
    if options.svg:
        print("\n".join(picture(results, options.svg, options.against)))
        return
    if options.goals:
        print("\n".join(goals(results, options.goals, options.against)))
    print("\n".join(headlines(results, plugins, options.against)))
    print("\n".join(details(results, plugins)))


if __name__ == "__main__":
    main()
