"""README's picture is the code's."""

import re
from pathlib import Path

from deploy import picture

ROOT = Path(__file__).parents[3]


def test_the_picture_is_that_of_the_code():
    readme = picture.README.read_text("utf-8")
    assert readme == picture.placed(readme), "run `python -m deploy.picture`"


def test_the_buckets_are_those_that_the_code_writes_to():
    sources = [*(ROOT / "libs").rglob("*.py"), *(ROOT / "services").rglob("*.py")]
    code = "\n".join(path.read_text("utf-8") for path in sources)
    found = set(re.findall(r'f?"(\w+)/(?:\{|exams/|models\.json|")', code))
    assert set(picture.BUCKETS) <= found
