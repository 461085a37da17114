from pathlib import Path

from athanor.common.v1 import artifacts_pb2, dead_letters_pb2, operations_pb2, options_pb2
from athanor.corpus.v1 import corpus_pb2
from athanor.evaluator.v1 import evaluator_pb2
from athanor.lm.v1 import lm_pb2
from athanor.loop.v1 import loop_pb2
from athanor.sampler.v1 import sampler_pb2
from athanor.trainer.v1 import trainer_pb2

from deploy.local.programs import SERVICES
from libs.rpc.callers import FOREIGN, OPERATOR, allowed_callers

ROOT = Path(__file__).parents[4]
MODULES = [
    *(artifacts_pb2, dead_letters_pb2, operations_pb2, corpus_pb2, evaluator_pb2, lm_pb2),
    *(loop_pb2, sampler_pb2, trainer_pb2),
]
METHODS = [
    method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
LONG = [each for each in METHODS if each.output_type.full_name == "google.longrunning.Operation"]


def callers(method):
    return allowed_callers(f"{method.containing_service.full_name}/{method.name}")


def test_every_service_is_looked_at():
    declared = {
        str(path.relative_to(ROOT / "protos"))
        for path in (ROOT / "protos" / "athanor").rglob("v1/*.proto")
        if "\nservice " in path.read_text()
    }
    assert declared == {module.DESCRIPTOR.name for module in MODULES}


def test_every_rpc_says_who_may_call_it():
    assert [each.full_name for each in METHODS if not callers(each)] == []


def test_callers_are_services_or_the_operator():
    assert {name for each in METHODS for name in callers(each)} <= {*SERVICES, OPERATOR}


def test_whoever_starts_long_calls_may_follow_them():
    starters = {name for each in LONG for name in callers(each)}
    watch = "athanor.common.v1.OperationsWatchService/Watch"
    assert starters <= {*FOREIGN["google.longrunning.Operations"]}
    assert starters <= {*allowed_callers(watch)}


def test_what_changes_the_live_model_is_for_people():
    assert allowed_callers("athanor.loop.v1.LoopService/PromoteModel") == (OPERATOR,)


def test_the_option_can_be_read_by_reflection():
    method = corpus_pb2.DESCRIPTOR.services_by_name["CorpusService"].methods_by_name["Search"]
    assert list(method.GetOptions().Extensions[options_pb2.allowed_callers]) == ["loop", "operator"]
