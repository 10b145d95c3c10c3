#!/usr/bin/env python3
"""Types what the tutorial types, looks at what must be seen, and writes down both: docs/journey.md, docs/journey-ko.md.

The tutorial's commands and manifests are the files in article/, byte for byte; `typed` says which words of them are
replaced. Every step is tried, also after one that failed; the status is 1 when one did.
"""

import argparse
import contextlib
import datetime
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "Tests" / "EndToEnd")]

import argo  # noqa: E402
import steps  # noqa: E402
import terminal  # noqa: E402
import transcript  # noqa: E402
from lab import BIN, Failed, eventually  # noqa: E402

CLUSTER = "k3s-default"
WORK = ROOT / ".journey"
LIMIT_SECONDS = 90
# What the tutorial takes from the net: ours, of their shape and size.
MANIFESTS = {
    "https://raw.githubusercontent.com/argoproj/argo-cd/v2.12.6/manifests/install.yaml": ("argo-cd.yaml", "cd"),
    "https://github.com/argoproj/argo-rollouts/releases/latest/download/install.yaml": ("argo-rollouts.yaml", "rollouts"),
}


def article(name):
    return (HERE / "article" / f"{name}.sh").read_text()


def typed(text, facts=()):
    """The tutorial's command as it is typed here. `facts`: pairs of what was so on the author's machine and is not on this."""
    text = re.sub(r"\bistioctl ", "martlet ", text)
    text = re.sub(r"\bk3d cluster ", "martlet lab ", text)
    text = re.sub(r"\bdocker exec -it (\S+) ", r"martlet lab exec \1 -- ", text)
    for address, (name, _) in MANIFESTS.items():
        text = text.replace(address, f".journey/{name}")
    for there, here in facts:
        assert there in text, f"{text!r} has no {there!r}"
        text = text.replace(there, here)
    return text


class Journey:
    """What the steps drive."""

    def __init__(self):
        self.environment = dict(os.environ)
        self.environment.update(
            # kubectl as it was in the tutorial's time: newer ones refuse the superfluous word in `exec deploy/sleep -n foo sleep --`.
            PATH=f"{BIN}:{WORK}/bin:{ROOT}/.tools/bin:" + os.environ["PATH"], KUBECONFIG=str(WORK / "kubeconfig"), NO_COLOR="1",
            # What nsenter starts in a node; without a file of settings its prompt is plain.
            SHELL="/bin/sh", ENV="")
        self.steps = []

    # What is written down

    def command(self, name, facts=()):
        return typed(article(name), facts)

    def type(self, name, facts=(), head=12, tail=12, status=0, **options):
        """A block of the tutorial; its output. Lines that are commands of their own are typed one after the other."""
        block = self.command(name, facts)
        commands = [block] if "<<" in block or "\\\n" in block else block.splitlines()
        return "".join(self.show(command, head, tail, status, **options) for command in commands)

    def show(self, command, head=12, tail=12, status=0, on_terminal=None, until=None, **options):
        """A command; its output. On a terminal when it asks for one. `status` None: any. `until`: what the page leaves out
        begins there."""
        if on_terminal is None:
            on_terminal = " -it " in command
        perform = terminal.run_on_terminal if on_terminal else terminal.run
        output, ended = perform(command, self.environment, ROOT, **options)
        self.note(command, output.partition(until)[0] if until else output, head, tail)
        if status is not None and ended != status:
            raise Failed(f"{command.strip()}\nended with {ended}, wanted {status}:\n{output}")
        return output

    def note(self, command, output, head=12, tail=12):
        # What is written again and again while something comes up is no result.
        output = "".join(line for line in output.splitlines(keepends=True) if not line.startswith("- Waiting for "))
        public = output.replace(f"{ROOT}/", "").replace(str(ROOT), ".")
        self.steps[-1].typed.append(transcript.Typed(command, public, head, tail))

    def check(self, claim, is_true, seen=""):
        """`claim`: what has to be so, as it is written down."""
        if not is_true:
            raise Failed(f"not so: {claim}\n{seen}")
        self.steps[-1].checked.append(claim)

    # What is only asked

    def ask(self, command, timeout=120):
        output, status = terminal.run(command, self.environment, ROOT, timeout)
        if status:
            raise Failed(f"{command}\nended with {status}:\n{output}")
        return output.strip()

    def try_out(self, command, timeout=60):
        return terminal.run(command, self.environment, ROOT, timeout)

    @contextlib.contextmanager
    def beside(self, command, until):
        """Runs until the block ends; begins when `until` was said. Gives a function for all that was said."""
        log = WORK / "beside.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-c", "exec " + command], env=self.environment, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            self.eventually(f"{command} to say {until}", lambda: until in log.read_text(), 20)
            yield log.read_text
        finally:
            terminal.kill(process.pid)
            process.wait()

    def eventually(self, what, check, seconds=60):
        return eventually(what, check, seconds)

    def rolled_out(self, *workloads, namespace, seconds=90):
        for workload in workloads:
            said, status = self.try_out(f"kubectl rollout status {workload} -n {namespace} --timeout={seconds}s", seconds + 10)
            if status:
                why, _ = self.try_out(f"kubectl get pods -n {namespace} -o wide; kubectl get events -n {namespace} | tail -20")
                raise Failed(f"{workload} in {namespace} is not there after {seconds} s:\n{said}\n{why}")

    def pod(self, label, namespace, output="{.items[0].metadata.name}"):
        return self.ask(f"kubectl get pods -n {namespace} -l {label} -o jsonpath='{output}'")

    # The whole

    def take(self, name, step):
        record = transcript.Step(name)
        self.steps.append(record)
        begun = time.monotonic()
        try:
            step(self)
        except (Failed, AssertionError, terminal.Ended, subprocess.SubprocessError, OSError, ValueError, IndexError,
                KeyError) as error:
            record.failure = f"{error}" if isinstance(error, (Failed, terminal.Ended)) else f"{type(error).__name__}: {error}"
            record.failure = record.failure.replace(f"{ROOT}/", "").replace(str(ROOT), ".")
        record.seconds = time.monotonic() - begun
        state = "NOT TRUE" if record.failure else "true"
        print(f"{name:4} {record.seconds:6.1f} s  {state}  {transcript.words.WORDS['en']['steps'][name][0]}", flush=True)
        if record.failure:
            print("     " + record.failure.strip().replace("\n", "\n     "), flush=True)


def prepare():
    if os.geteuid() != 0:
        sys.exit("journey: the lab makes network namespaces: run as root")
    if not (BIN / "martlet").exists():
        sys.exit("journey: nothing is built: run make build")
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "bin").mkdir(parents=True)
    (WORK / "bin" / "kubectl").symlink_to(ROOT / ".tools" / "bin" / "kubectl-1.31")
    for name, which in MANIFESTS.values():
        (WORK / name).write_text(argo.manifest(which))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=pathlib.Path, default=ROOT / "docs", help="where the pages go")
    parser.add_argument("--keep", action="store_true", help="leave the lab running")
    parser.add_argument("--only", default="", help="the first steps, up to this one: J7")
    options = parser.parse_args()
    prepare()
    journey = Journey()
    # What an earlier run left; no lab is no trouble.
    terminal.run(f"martlet lab delete {CLUSTER}", journey.environment, ROOT)
    begun = time.monotonic()
    try:
        for name, step in steps.STEPS.items():
            journey.take(name, step)
            if journey.steps[0].failure:
                sys.exit("journey: without a cluster there is nothing to see")
            if name == options.only:
                break
        seconds = time.monotonic() - begun
    finally:
        if not options.keep:
            terminal.run(f"martlet lab delete {CLUSTER}", journey.environment, ROOT)
    facts = {
        "date": datetime.date.today().isoformat(), "seconds": round(seconds), "cores": os.cpu_count(),
        "build": BIN.name, "machine": platform.machine(),
        "done": sum(not step.failure for step in journey.steps), "all": len(journey.steps)}
    options.docs.mkdir(parents=True, exist_ok=True)
    if not options.only:
        for language, name in (("en", "journey.md"), ("ko", "journey-ko.md")):
            (options.docs / name).write_text(transcript.page(journey.steps, facts, language))
    late = f", more than {LIMIT_SECONDS}" if seconds > LIMIT_SECONDS else ""
    print(f"{facts['done']} of {facts['all']} steps are true; {seconds:.0f} s{late}")
    sys.exit(0 if facts["done"] == facts["all"] else 1)


if __name__ == "__main__":
    main()
