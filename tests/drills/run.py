"""Do a drill: try until the step was hit while it ran, then compare what is left with a reference.

The reference is one undisturbed round of the same code on the same machine, kept beside results.
"""

import json
import random
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from deploy.demo import render, site
from deploy.local.programs import ROOT
from libs.errors import ServiceError
from services.loop.adapters import FolderLibrary, ProtoCatalogue
from services.loop.binding import check
from tests.drills import world
from tests.drills.acts import ACTS, Moment, Shown, settings_for
from tests.drills.matrix import Drill, Recipe
from tests.drills.results import Verdict
from tests.drills.scene import Missed, Reference, Scene, Setting
from tests.drills.servers import Servers
from tests.drills.stack import Failed, Unable
from tests.drills.state import Left, differences

_MAX_TRIES = 12
_EARLIEST, _LATEST = 0.1, 0.9
"""Of a step's undisturbed duration: when it is hit."""
_SHOWN_DIFFERENCES = 12


class Outcome(NamedTuple):
    """How a drill ended."""

    verdict: Verdict
    fraction: float
    shown_by: str
    tries: int
    stall_s: float = 0.0
    """How much longer than undisturbed the round took, seconds."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Where drills are done: `.drills`, with the world, references, and a folder for each drill."""

    folder: Path
    code: str
    """Digest of the code that is drilled."""
    seed: int
    servers: Servers
    """Real servers of its own, started when a drill needs them."""
    keep: bool = False
    """Whether the folders of drills that pass are kept too."""

    def setting(self, recipe: Recipe) -> Setting:
        """Return what the drills of a recipe share; its files are made where missing."""
        made = self.folder / "world"
        if not made.exists():
            part = self.folder / "world.part"
            shutil.rmtree(part, ignore_errors=True)
            world.write(part)
            part.rename(made)
        text = self._site_round() if recipe is Recipe.SITE else _folder_round(made)
        return Setting(
            round_file=text,
            rpc_by_step=rpc_by_step(text),
            late_exam=made / "late.jsonl",
            site=self.folder / "site" if recipe is Recipe.SITE else None,
            servers=self.servers if recipe is Recipe.CLUSTER else None,
        )

    def reference(self, recipe: Recipe) -> Reference:
        """Return the undisturbed round; done now unless it was done with this code.

        Raises:
            Failed: it does not end as it should.
            ServiceError: the servers that it needs do not start.
        """
        path = self.folder / f"reference-{recipe}-{self.code}.json"
        if path.exists():
            fields = json.loads(path.read_text())
            return Reference(**{**fields, "left": Left.from_json(fields["left"])})
        if recipe is Recipe.CLUSTER:
            # The first round brings its weights to Triton; every later one finds them there.
            self._undisturbed(recipe)
        found = self._undisturbed(recipe)
        path.write_text(json.dumps(asdict(found)))
        return found

    def do(self, drill: Drill) -> Outcome:
        """Do a drill. Its folder is kept when it fails."""
        reference = self.reference(drill.recipe)
        folder = self.folder / "work" / drill.name
        draw = random.Random(f"{self.seed} {drill.name}")
        if drill.step not in reference.duration_s:
            return Outcome(Verdict.SKIPPED, 0.0, f"the round does not come to {drill.step}", 0)
        fraction = 0.0
        for attempt in range(1, _MAX_TRIES + 1):
            # Earlier after a miss: a step may be faster than its reference was.
            fraction = max(draw.uniform(_EARLIEST, _LATEST) * 0.8 ** (attempt - 1), _EARLIEST)
            moment = Moment(step=drill.step, after_s=fraction * reference.duration_s[drill.step])
            try:
                scene = Scene(
                    folder=folder,
                    setting=self.setting(drill.recipe),
                    more=settings_for(drill, folder),
                )
            except ServiceError as error:  # the servers do not start
                return Outcome(Verdict.FAILED, fraction, str(error), attempt)
            scene.prepare()
            try:
                shown = ACTS[drill.kind](scene, drill, moment)
                _check(scene, reference, shown)
            except Missed:
                continue
            except Unable as lacking:
                return Outcome(Verdict.SKIPPED, 0.0, str(lacking), attempt)
            except (Failed, ServiceError) as fault:  # a server that fails us, beyond our patience
                return Outcome(Verdict.FAILED, fraction, f"{fault}\nsee {folder}", attempt)
            finally:
                scene.destroy()
            if not self.keep:
                shutil.rmtree(folder)
            stall_s = max(0.0, scene.round_s - reference.round_s)
            return Outcome(Verdict.PASSED, fraction, shown.by, attempt, stall_s)
        return Outcome(
            Verdict.FAILED, fraction, f"{drill.step} was not hit in {_MAX_TRIES} tries", attempt
        )

    def _undisturbed(self, recipe: Recipe) -> Reference:
        scene = Scene(
            folder=self.folder / "work" / f"reference-{recipe}", setting=self.setting(recipe)
        )
        scene.prepare()
        began = time.monotonic()
        try:
            scene.stack.start()
            up_s = time.monotonic() - began
            scene.start_round()
            scene.await_end()
            round_s = time.monotonic() - began - up_s
            found = scene.keep()
            steps = scene.store.round().steps
            scene.stack.stop()
        finally:
            scene.destroy()
        if found.faults:
            raise Failed("\n".join(found.faults))
        if recipe is not Recipe.SITE and found.left.outcome != "promoted":
            raise Failed(f"it must come to every step, it ended as {found.left.outcome}")
        return Reference(
            left=found.left,
            duration_s={step.name: step.duration_s for step in steps if step.operation},
            up_s=up_s,
            round_s=round_s,
        )

    def _site_round(self) -> str:
        pages = self.folder / "site"
        render.render(pages)
        return yaml.safe_dump(
            {
                "recipe": "drill-site",
                "set": {
                    "seeds": [site.LOGICAL_PREFIX + site.ENTRY],
                    "private_hosts": [site.LOGICAL_PREFIX.split("/")[2]],
                    "topics": {f"/{name}": topic for name, topic in render.topics(pages).items()},
                },
            }
        )


def rpc_by_step(text: str) -> dict[str, str]:
    """Return the steps of a round file in running order, each with its `<service>.<Method>`."""
    checked = check(text, FolderLibrary(ROOT / "deploy" / "recipes"), ProtoCatalogue())
    if checked.bound is None:
        raise ValueError(f"the drill's recipe cannot run: {'; '.join(checked.faults)}")
    return {step.name: step.rpc for step in checked.bound.steps.values()}


def _folder_round(made: Path) -> str:
    folder, exam = str(made / "text"), str(made / "exam.jsonl")
    return yaml.safe_dump({"recipe": "drill", "set": {"folder": folder, "exam": exam}})


def _check(scene: Scene, reference: Reference, shown: Shown) -> None:
    """Raise `Failed` unless the round left what it should, and nobody behind."""
    found = scene.keep()
    scene.stack.stop()
    blobs = {k: v for k, v in found.left.blobs.items() if k not in shown.blobs}
    left = Left(**{**found.left.__dict__, "blobs": blobs})
    lines = [*differences(reference.left, left), *found.faults]
    if lines:
        more = len(lines) - _SHOWN_DIFFERENCES
        tail = [f"and {more} more"] if more > 0 else []
        raise Failed("\n".join([*lines[:_SHOWN_DIFFERENCES], *tail]))
