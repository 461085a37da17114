"""Mutual TLS over real channels: who is let in, who is refused and why, and renewal."""

from datetime import timedelta
from functools import partial

import grpc
import pytest
from athanor.corpus.v1 import corpus_pb2, corpus_pb2_grpc
from athanor.sampler.v1 import sampler_pb2, sampler_pb2_grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.tls.authority import make
from deploy.tls.folder import identity
from libs import errors, rpc
from libs.launcher import answers_health
from libs.tls import Tls

NAMES = ("corpus", "loop", "operator", "trainer")
ASK = corpus_pb2.SearchRequest(passages_id="p", queries=["q"])
ANSWER = corpus_pb2.SearchResponse(results=[corpus_pb2.SearchResult()])
STREAM = sampler_pb2.StreamRequest(plan_id="p", sequence_length=1, batch_size=1)


class ToyCorpus(corpus_pb2_grpc.CorpusServiceServicer):
    def Search(self, request, context):
        return ANSWER


class ToySampler(sampler_pb2_grpc.SamplerServiceServicer):
    def Stream(self, request, context):
        yield sampler_pb2.StreamResponse()


class ToyOperations(operations_pb2_grpc.OperationsServicer):
    def GetOperation(self, request, context):
        return operations_pb2.Operation(name=request.name)


def nameless(bare):
    """Register a method that no proto declares."""
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    methods = grpc.method_handlers_generic_handler("toy.Nameless", {"Call": handler})
    bare.add_generic_rpc_handlers((methods,))


def serve(tls, port=0):
    made = rpc.server(
        service="corpus",
        registrations=[
            partial(corpus_pb2_grpc.add_CorpusServiceServicer_to_server, ToyCorpus()),
            partial(sampler_pb2_grpc.add_SamplerServiceServicer_to_server, ToySampler()),
            partial(operations_pb2_grpc.add_OperationsServicer_to_server, ToyOperations()),
            nameless,
        ],
        service_names=["athanor.corpus.v1.CorpusService"],
        port=port,
        tls=tls,
    )
    made.start()
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tls")
    make(made, NAMES)
    return made


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """The folder of another authority, with the same names."""
    made = tmp_path_factory.mktemp("stranger")
    make(made, NAMES)
    return made


@pytest.fixture(scope="module")
def server(folder):
    made = serve(identity(folder, "corpus"))
    yield made
    made.drain(0)


def expired(folder, name="expired"):
    make(folder, [name], valid=timedelta(seconds=-1))
    return identity(folder, name)


def search(address, tls, timeout=5):
    with rpc.connect(address, tls=tls) as channel:
        return corpus_pb2_grpc.CorpusServiceStub(channel).Search(ASK, timeout=timeout)


@pytest.mark.parametrize("name", ["loop", "operator"])
def test_whoever_the_proto_names_may_call(server, folder, name):
    assert search(server.address, identity(folder, name)) == ANSWER


def test_anybody_else_is_told_who_may(server, folder):
    with pytest.raises(
        errors.Forbidden, match=r"CorpusService/Search .* by loop and operator, .* by trainer"
    ):
        search(server.address, identity(folder, "trainer"))


def test_a_stream_is_kept_for_whom_the_proto_names(server, folder):
    with rpc.connect(server.address, tls=identity(folder, "trainer")) as channel:
        assert len(list(sampler_pb2_grpc.SamplerServiceStub(channel).Stream(STREAM, timeout=5)))
    with rpc.connect(server.address, tls=identity(folder, "loop")) as channel:
        stream = sampler_pb2_grpc.SamplerServiceStub(channel).Stream(STREAM, timeout=5)
        with pytest.raises(errors.Forbidden, match="by trainer and operator, got a call by loop"):
            list(stream)


def test_operations_are_for_those_who_start_them(server, folder):
    request = operations_pb2.GetOperationRequest(name="operations/corpus/x")
    with rpc.connect(server.address, tls=identity(folder, "loop")) as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        assert stub.GetOperation(request, timeout=5).name == request.name
    with rpc.connect(server.address, tls=identity(folder, "trainer")) as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        with pytest.raises(errors.Forbidden, match=r"google.longrunning.Operations/GetOperation"):
            stub.GetOperation(request, timeout=5)


def test_a_method_that_says_nothing_is_for_nobody(server, folder):
    with (
        rpc.connect(server.address, tls=identity(folder, "operator")) as channel,
        pytest.raises(errors.Forbidden, match="may be called by nobody, got a call by operator"),
    ):
        channel.unary_unary("/toy.Nameless/Call")(b"", timeout=5)


def test_a_caller_of_another_authority_is_refused_with_the_reason(server, stranger):
    with pytest.raises(errors.Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        search(server.address, identity(stranger, "operator"), timeout=0.5)


def test_a_certificate_of_another_authority_is_refused_with_the_reason(server, folder, stranger):
    theirs = identity(stranger, "operator")
    tls = Tls(cert=theirs.cert, private=theirs.private, ca=identity(folder, "corpus").ca)
    with pytest.raises(errors.Forbidden, match=r"operator\.pem is refused by .*issuer certificate"):
        search(server.address, tls)


def test_an_expired_caller_is_refused_with_the_reason(server, folder):
    with pytest.raises(errors.Forbidden, match=r"expired\.pem is refused.*has expired"):
        search(server.address, expired(folder))


def test_a_caller_without_a_certificate_is_refused(server):
    with pytest.raises(errors.Unavailable, match=r"Socket closed \(spoken without TLS\)"):
        search(server.address, None, timeout=0.5)


def test_a_caller_with_the_authority_alone_is_refused(server, folder):
    credentials = grpc.ssl_channel_credentials(identity(folder, "corpus").ca.read_bytes())
    with grpc.secure_channel(server.address, credentials) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            corpus_pb2_grpc.CorpusServiceStub(channel).Search(ASK, timeout=2)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_service_with_an_expired_certificate_does_not_start(folder):
    with pytest.raises(errors.InvalidInput, match="certificate has expired"):
        serve(expired(folder))


def test_files_that_are_absent_are_named(tmp_path):
    with pytest.raises(errors.InvalidInput, match=r"nobody\.pem"):
        rpc.connect("127.0.0.1:1", tls=identity(tmp_path, "nobody"))


def test_health_is_for_everybody_with_a_certificate(server, folder, stranger):
    assert answers_health(server.port, identity(folder, "trainer"))
    assert not answers_health(server.port, identity(stranger, "trainer"))
    assert not answers_health(server.port)


def test_a_server_whose_certificate_runs_out_is_refused_until_it_is_renewed(tmp_path):
    make(tmp_path, ["corpus", "operator"])
    served = serve(identity(tmp_path, "corpus"))
    try:
        make(tmp_path, ["corpus"], valid=timedelta(seconds=-1), renew=True)
        with pytest.raises(errors.Unavailable, match="certificate has expired"):
            search(served.address, identity(tmp_path, "operator"), timeout=0.5)
        make(tmp_path, ["corpus"], renew=True)
        assert search(served.address, identity(tmp_path, "operator")) == ANSWER
    finally:
        served.drain(0)


def test_a_channel_takes_up_a_renewed_certificate(tmp_path):
    make(tmp_path, ["corpus", "operator"])
    tls = identity(tmp_path, "operator")
    served = serve(identity(tmp_path, "corpus"))
    try:
        make(tmp_path, ["operator"], valid=timedelta(seconds=-1), renew=True)
        with rpc.connect(served.address, tls=tls) as channel:
            stub = corpus_pb2_grpc.CorpusServiceStub(channel)
            with pytest.raises(errors.Forbidden, match="certificate has expired"):
                stub.Search(ASK, timeout=5)
            make(tmp_path, ["operator"], renew=True)
            assert stub.Search(ASK, timeout=5) == ANSWER
    finally:
        served.drain(0)


def test_without_tls_everybody_may_call():
    served = serve(None)
    try:
        assert search(served.address, None) == ANSWER
        with grpc.insecure_channel(served.address) as channel:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    finally:
        served.drain(0)
