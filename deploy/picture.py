"""Draw README's picture from the code: every service, whom it calls, its topics, every bucket.

`python -m deploy.picture` after a change; a test compares. GitHub renders the Mermaid text.
"""

from collections.abc import Iterator
from pathlib import Path

from deploy.local.programs import SERVICES
from deploy.topics import declared

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- picture: begin -->\n", "<!-- picture: end -->\n"
BUCKETS = {
    "artifacts": "every result, immutable",
    "requests": "request to artifact",
    "operations": "long calls: lease, progress, result",
    "rounds": "where each round stands",
    "registry": "models and exams",
    "weights": "digest to checkpoint",
    "reports": "HTML pages",
}
"""Bucket to what lies in it; a test looks for each in the code."""


def drawn() -> str:
    """Return the picture as Mermaid."""
    return "\n".join(["```mermaid", "flowchart LR", *_lines(), "```", ""])


def _lines() -> Iterator[str]:
    yield '  cli(["./athanor"]) -->|gRPC| loop'
    for service, calls in SERVICES.items():
        yield f'  {service}["{service}"]'
        yield from (f"  {service} -->|gRPC| {other}" for other in calls)
    for service, topics in declared().items():
        events = [topic.name for topic in topics if ".commands." not in topic.name]
        yield f'  {service} -.-> bus_{service}[/"{"<br>".join(events)}"/]'
        yield f'  commands_{service}[/"{service}.commands.v1"/] -.-> {service}'
    buckets = "<br>".join(f"{name}: {what}" for name, what in BUCKETS.items())
    yield f'  store[("object store<br>{buckets}")]'
    yield f"  {' & '.join(SERVICES)} --- store"


def placed(readme: str) -> str:
    """Return README with the picture between its marks."""
    head, rest = readme.split(BEGIN)
    return head + BEGIN + drawn() + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(placed(README.read_text("utf-8")), "utf-8")
