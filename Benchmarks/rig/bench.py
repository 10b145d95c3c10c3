#!/usr/bin/env python3
"""Runs scenarios over several proxy plug-ins, interleaved (A B C, A B C, ...), one JSON line per measurement.

Needs the rig up (rig.sh up). Each plug-in gets a fresh pair of processes in every repetition. A measurement during
which processes outside the rig used more than --max-foreign cores is taken again, and marked when it stays so.
"""

import argparse
import json
import os
import subprocess
import sys
import time

from scenarios import SCENARIOS

HERE = os.path.dirname(os.path.abspath(__file__))


def control(verb, plugin, environment=None):
    environment = os.environ | (environment or {})
    done = subprocess.run([f"{HERE}/ctl.sh", verb, plugin], capture_output=True, text=True, env=environment)
    if verb == "stop":
        return None
    if done.returncode:
        raise RuntimeError(f"{verb} {plugin}: {done.stderr[-400:]}")
    return json.loads(done.stdout)


def show(record):
    figures = " ".join(f"{k}={v:.4g}" for k, v in record["figures"].items() if isinstance(v, (int, float)))
    mark = f" foreign={record['account']['foreign']}" + (" *" if record["disturbed"] else "")
    print(f"{record['repetition']} {record['plugin']:18} {record['scenario']:9} {figures}{mark}", flush=True)


def take(plugin, name, addresses, repetition, options):
    """One measurement; None when it failed every time."""
    for attempt in range(options.attempts):
        is_last = attempt == options.attempts - 1
        try:
            figures, account = SCENARIOS[name].run(addresses)
        except Exception as error:
            print(f"{plugin} {name}: {error}", file=sys.stderr, flush=True)
            time.sleep(1)
            continue
        disturbed = account["foreign"] > options.max_foreign
        if disturbed and not is_last:
            print(f"{plugin} {name}: others used {account['foreign']} cores: again", flush=True)
            time.sleep(2)
            continue
        return {
            "plugin": plugin, "scenario": name, "repetition": repetition, "at": time.strftime("%FT%T"),
            "figures": figures, "account": account, "disturbed": disturbed,
        }
    return None


def run_plugin(plugin, names, repetition, options):
    capabilities = control("info", plugin)["caps"].split()
    names = [name for name in names if SCENARIOS[name].capability in capabilities]
    if not names:
        return True
    is_complete, running = True, None
    try:
        for name in names:
            environment = SCENARIOS[name].environment
            if SCENARIOS[name].needs_fresh_pair or running != environment:
                if running is not None:
                    control("stop", plugin)
                addresses = control("start", plugin, environment)
                running = environment
            time.sleep(0.5)
            record = take(plugin, name, addresses, repetition, options)
            if record is None:
                is_complete = False
                continue
            with open(options.out, "a") as file:
                file.write(json.dumps(record) + "\n")
            show(record)
    finally:
        control("stop", plugin)
    return is_complete


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plugins", default="direct,envoy-l4,martlet")
    parser.add_argument("--scenarios", default="t1,t2,t3,t4", help="names or groups")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--attempts", type=int, default=4)
    parser.add_argument("--max-foreign", type=float, default=0.12, help="cores")
    parser.add_argument("--out", default="results.jsonl")
    options = parser.parse_args()
    wanted = options.scenarios.split(",")
    names = [name for name, scenario in SCENARIOS.items() if name in wanted or scenario.group in wanted]
    is_complete = True
    for repetition in range(options.reps):
        for plugin in options.plugins.split(","):
            is_complete &= run_plugin(plugin, names, repetition, options)
    sys.exit(0 if is_complete else 1)


if __name__ == "__main__":
    main()
