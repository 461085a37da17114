"""Look at each server of the cluster profile: does it answer, which version, what may we do there.

For `doctor`, so it must run where no package is installed; then it tells only who answers. Rights
are found by doing: what a look creates has a random name and is removed.
"""

from collections.abc import Mapping

from deploy.local.finding import Finding
from deploy.local.sights import elasticsearch, kafka, minio, prometheus, triton
from deploy.local.sights.sight import START, Look, Settings
from libs.clock import Clock

MAX_SKEW_S = 60.0
"""MinIO refuses a request that is 900 s late or early."""
_LOOKS: Mapping[str, Look] = {
    "kafka": kafka.look_at,
    "minio": minio.look_at,
    "elasticsearch": elasticsearch.look_at,
    "triton": triton.look_at,
    "prometheus": prometheus.look_at,
}
_OPTIONAL = "prometheus"


def examine(settings: Settings, clock: Clock) -> list[Finding]:
    """Look at every server that `ATHANOR_<SERVER>` names.

    A fault counts as such only under `ATHANOR_PROFILE=cluster`.
    """
    needed = settings.get("ATHANOR_PROFILE") == "cluster"
    named = {name: see for name, see in _LOOKS.items() if settings.get(f"ATHANOR_{name.upper()}")}
    if not named and not needed:
        return [Finding("servers", "none named (cluster profile)", "make stack", needed=False)]
    sights = {name: see(settings, clock) for name, see in named.items()}
    findings = [each for sight in sights.values() for each in sight.findings]
    findings += [
        Finding(name, f"ATHANOR_{name.upper()} is not set", START)
        for name in _LOOKS
        if name not in named and name != _OPTIONAL
    ]
    skews = {name: sight.skew_s for name, sight in sights.items() if sight.skew_s is not None}
    return [each._replace(needed=needed) for each in (*findings, *_clocks(skews))]


def _clocks(skews: Mapping[str, float]) -> list[Finding]:
    if not skews:
        return []
    found = ", ".join(f"{name} {skew_s:+.1f} s" for name, skew_s in skews.items())
    is_off = max(map(abs, skews.values())) > MAX_SKEW_S
    remedy = "set the clocks: timedatectl set-ntp true" if is_off else ""
    return [Finding("clocks", f"theirs less ours: {found}", remedy)]
