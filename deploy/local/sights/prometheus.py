"""Prometheus: its version, and which of its targets it cannot read."""

from deploy.local.finding import Finding
from deploy.local.sights.sight import Settings, Sight, skew_s, unreachable
from deploy.local.stack import look
from libs.clock import Clock


def look_at(settings: Settings, clock: Clock) -> Sight:
    """Look at it and at what it scrapes."""
    url = settings["ATHANOR_PROMETHEUS"].rstrip("/")
    try:
        answer = look.get(f"{url}/api/v1/status/buildinfo")
        version = answer.json()["data"]["version"]
        targets = look.get(f"{url}/api/v1/targets?state=active").json()["data"]["activeTargets"]
    except (OSError, LookupError, ValueError) as error:
        return unreachable("prometheus", url, error)
    lost = [each["scrapeUrl"] for each in targets if each["health"] == "down"]
    found = f"{url}, {version}, {len(targets) - len(lost)} of {len(targets)} targets answer"
    remedy = f"start or forget {', '.join(lost)}" if lost else ""
    return Sight([Finding("prometheus", found, remedy)], skew_s(answer, clock))
