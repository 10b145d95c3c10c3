"""What was typed and seen, and the pages that are made of it."""

import dataclasses
import re

import words

LINES_MAX = 24
LINE_MAX = 260


@dataclasses.dataclass
class Typed:
    command: str
    output: str
    # Lines that stay when the output is too long for a page: at its beginning and at its end.
    head: int = LINES_MAX // 2
    tail: int = LINES_MAX // 2


@dataclasses.dataclass
class Step:
    name: str
    typed: list = dataclasses.field(default_factory=list)
    checked: list = dataclasses.field(default_factory=list)
    failure: str = ""
    seconds: float = 0


def trimmed(text, head, tail):
    # kubectl's colours.
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.rstrip() for line in text.strip("\n").split("\n")]
    lines = [line if len(line) <= LINE_MAX else line[:LINE_MAX] + " ..." for line in lines]
    if len(lines) > head + tail + 1:
        left_out = len(lines) - head - tail
        lines = lines[:head] + [f"... ({left_out} lines)"] + (lines[-tail:] if tail else [])
    return "\n".join(lines)


def console(typed):
    text = "$ " + typed.command.strip("\n")
    output = trimmed(typed.output, typed.head, typed.tail)
    return f"```console\n{text}\n{output}\n```\n" if output else f"```console\n{text}\n```\n"


def page(steps, facts, language):
    """`facts`: what the introduction names."""
    said = words.WORDS[language]
    parts = [said["title"], said["introduction"].format(**facts)]
    rows = []
    for step in steps:
        state = said["false"] if step.failure else said["true"]
        rows.append(f"| [{step.name}](#{step.name.lower()}) | {said['steps'][step.name][0]} | {state} | {step.seconds:.1f} s |")
    parts.append("\n".join([said["columns"], "|---|---|---|---|", *rows]) + "\n")
    for step in steps:
        title, text = said["steps"][step.name]
        parts.append(f'<a id="{step.name.lower()}"></a>\n\n## {step.name}. {title}\n\n{text}\n')
        if step.failure:
            parts.append(said["failure"] + "\n\n```text\n" + trimmed(step.failure, 6, 2) + "\n```\n")
        parts += [console(typed) for typed in step.typed]
        if step.checked:
            parts.append(said["checked"] + " " + "; ".join(step.checked) + ".\n")
    return "\n".join(parts)
