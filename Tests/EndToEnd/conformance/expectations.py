"""Whether an answer is the one that a table wants."""

import urllib.parse


def joined(headers):
    """By lower-case name; several values as one line."""
    out = {}
    for name, values in (headers or {}).items():
        out.setdefault(name.lower(), []).extend(values)
    return {name: ",".join(",".join(part.strip() for part in value.split(",")) for value in values)
            for name, values in out.items()}


def difference(request, answer):
    """What is wrong, in words; None when nothing is."""
    expect = request.get("expect", {})
    if "error" in answer:
        return answer["error"]
    if answer["code"] != expect.get("status", 200):
        return f"status {answer['code']}, wanted {expect.get('status', 200)}"
    if request["url"].startswith("grpc") and answer.get("grpcStatus") != str(expect.get("grpc", 0)):
        return f"gRPC status {answer.get('grpcStatus')} ({answer.get('grpcMessage')}), wanted {expect.get('grpc', 0)}"
    received = joined(answer["headers"])
    for name, value in expect.get("headers", {}).items():
        if received.get(name.lower()) != value:
            return f"header {name} of the response is {received.get(name.lower())!r}, wanted {value!r}"
    for name in expect.get("absent", []):
        if name.lower() in received:
            return f"the response has a header {name}: {received[name.lower()]!r}"
    if "redirect" in expect:
        return redirect_difference(request["url"], expect["redirect"], received.get("location"))
    echo = answer.get("echo")
    if "backend" in expect:
        if not echo:
            return f"no echo: {answer.get('body', '')[:200]!r}"
        if not echo["pod"].startswith(expect["backend"]):
            return f"answered by {echo['pod']}, wanted {expect['backend']}"
    if "request" in expect:
        return seen_difference(expect["request"], echo or {})
    return None


def seen_difference(wanted, echo):
    """Of the request as the pod saw it."""
    if "path" in wanted and echo.get("path") != wanted["path"]:
        return f"the pod saw the path {echo.get('path')!r}, wanted {wanted['path']!r}"
    seen = joined(echo.get("headers"))
    for name, value in wanted.get("headers", {}).items():
        if seen.get(name.lower()) != value:
            return f"the pod saw {name}: {seen.get(name.lower())!r}, wanted {value!r}"
    for name in wanted.get("absent", []):
        if name.lower() in seen:
            return f"the pod saw {name}: {seen[name.lower()]!r}"
    return None


def redirect_difference(url, wanted, location):
    """What the table leaves out is as in the request; a port that the scheme implies may be left out."""
    if not location:
        return "the redirect has no Location"
    asked = urllib.parse.urlsplit(url)
    found = urllib.parse.urlsplit(urllib.parse.urljoin(url, location))
    implied = {"http": 80, "https": 443}
    scheme = wanted.get("scheme", asked.scheme)
    # Without a port of its own a redirect to another scheme means that scheme's, else the listener's.
    port = wanted.get("port") or (implied[scheme] if "scheme" in wanted else asked.port or implied[asked.scheme])
    differences = [
        f"{name} {is_!r}, wanted {wanted_!r}" for name, is_, wanted_ in (
            ("scheme", found.scheme, scheme), ("host", found.hostname, wanted.get("host", asked.hostname)),
            ("port", found.port or implied.get(found.scheme), port), ("path", found.path, wanted.get("path", asked.path)))
        if is_ != wanted_]
    return f"Location {location}: {'; '.join(differences)}" if differences else None


def shares_difference(shares, pods):
    """Of the names of the pods that answered; each share may be off by 5 percent points."""
    seen = {name: sum(pod.startswith(name) for pod in pods) for name in shares}
    if sum(seen.values()) != len(pods):
        return f"somebody else answered: {sorted(set(pods))}"
    wrong = [
        f"{name} answered {seen[name]} of {len(pods)}, wanted {share:.0%}" for name, share in shares.items()
        if abs(seen[name] / len(pods) - share) > 0.05]
    return "; ".join(wrong) or None
