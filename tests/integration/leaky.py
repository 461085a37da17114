"""A service that says its secret wherever a service can say something: `python -m ...leaky`."""

import logging
import os
import sys
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

from athanor.corpus.v1 import corpus_pb2, corpus_pb2_grpc

from libs import telemetry
from libs.blobs.folder import FolderBlobs
from libs.bus.port import Topic
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.config import ServiceConfig, read
from libs.errors import InvalidInput, NotFound
from libs.operations.servicer import LongCalls
from libs.operations.step import Made, Step, Work
from libs.service import build_service

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    api_token: str
    crash: bool = False


class Leaky(corpus_pb2_grpc.CorpusServiceServicer):
    def __init__(self, calls: LongCalls, token: str) -> None:
        self._calls, self._token = calls, token

    def Crawl(self, request: Any, context: Any) -> Any:
        return self._calls.start("Crawl", request, context)

    def Search(self, request: Any, context: Any) -> Any:
        telemetry.note({"leaky.token": self._token})
        _log.warning("the token is %s", self._token, extra={"token": self._token})
        thread = threading.Thread(target=self._fail)
        thread.start()
        thread.join()
        if request.passages_id == "typed":
            raise InvalidInput(f"expected another token, got {self._token}")
        raise KeyError(self._token)

    def _fail(self) -> None:
        raise RuntimeError(f"a thread met {self._token}")


def step(token: str) -> Step:
    def run(request: corpus_pb2.CrawlRequest, work: Work) -> Made:
        telemetry.note({"leaky.token": token})
        error = NotFound if request.as_of == "typed" else RuntimeError
        raise error(f"there is no {token}")

    return Step(
        method="Crawl", request=corpus_pb2.CrawlRequest, kind="documents", version=1, run=run
    )


def main() -> None:
    config = read(Config, "corpus", os.environ)
    if config.crash:
        raise RuntimeError(f"the token {config.api_token} was refused")
    bus = SqliteBus(config.home / "bus.sqlite", session_s=10.0)
    calls = LongCalls(
        "corpus",
        steps=[step(config.api_token)],
        blobs=FolderBlobs(config.home / "blobs"),
        bus=bus,
        clock=Clock(),
    )
    leaky = Leaky(calls, config.api_token)
    build_service(
        config,
        calls,
        topics=[Topic(name="corpus.commands.v1", key="operation")],
        register=partial(corpus_pb2_grpc.add_CorpusServiceServicer_to_server, leaky),
        service_names=["athanor.corpus.v1.CorpusService"],
    ).run()


if __name__ == "__main__":
    sys.exit(main())
