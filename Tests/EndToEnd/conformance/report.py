"""The result in the Gateway API project's form: a ConformanceReport."""

import datetime

import yaml

import tables


def status(outcomes):
    """Of tests by name: True passed, False failed."""
    failed = sorted(name for name, passed in outcomes.items() if not passed)
    result = {
        "result": "failure" if failed else "success",
        "statistics": {"Failed": len(failed), "Passed": len(outcomes) - len(failed), "Skipped": 0}}
    if failed:
        result["failedTests"] = failed
    return result


def document(tests, outcomes, version, channel="standard"):
    """`outcomes`: name of each test that ran, and whether it passed. A test that did not run counts as skipped, and a core
    test that was skipped makes a profile partial."""
    profiles = []
    for profile in tables.PROFILES:
        mine = [table for table in tests if profile in tables.profiles_of(table)]
        entry = {"name": profile}
        for level, wanted in (("core", True), ("extended", False)):
            names = [table["name"] for table in mine if tables.is_core(table, profile) == wanted]
            part = status({name: outcomes[name] for name in names if name in outcomes})
            skipped = sorted(set(names) - set(outcomes))
            if skipped:
                part["statistics"]["Skipped"] = len(skipped)
                part["skippedTests"] = skipped
                if part["result"] == "success":
                    part["result"] = "partial"
            entry[level] = part
        broken = {
            feature for table in mine if not outcomes.get(table["name"]) for feature in table["features"]}
        entry["extended"]["supportedFeatures"] = [name for name in tables.MESH_FEATURES if name not in broken]
        if unsupported := [name for name in tables.MESH_FEATURES if name in broken]:
            entry["extended"]["unsupportedFeatures"] = unsupported
        entry["summary"] = (
            f"Core tests {word(entry['core'])}. Extended tests {word(entry['extended'])}.")
        profiles.append(entry)
    succeeded = sorted(table["name"] for table in tests if table.get("provisional") and outcomes.get(table["name"]))
    return {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "ConformanceReport",
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "gatewayAPIChannel": channel, "gatewayAPIVersion": tables.VERSION,
        "implementation": {
            # The project has no address and no maintainers that could be named: whoever hands the report in fills them in.
            "organization": "martlet", "project": "martlet", "url": "", "version": version, "contact": []},
        "mode": "default", "profiles": profiles, "succeededProvisionalTests": succeeded}


def word(part):
    numbers = part["statistics"]
    if part["result"] == "success":
        return f"succeeded ({numbers['Passed']})"
    return f"{part['result']} ({numbers['Passed']} passed, {numbers['Failed']} failed, {numbers['Skipped']} skipped)"


def text(content):
    return yaml.safe_dump(content, sort_keys=True)
