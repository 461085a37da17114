"""Every topic that the corpus owns."""

from libs.bus.port import Topic

DOCUMENTS_READ = Topic(name="corpus.documents-read.v1", key="artifact id of the documents")
PASSAGES_COLLECTED = Topic(name="corpus.passages-collected.v1", key="artifact id of the passages")
TOPICS = (
    Topic(name="corpus.commands.v1", key="operation name"),
    DOCUMENTS_READ,
    PASSAGES_COLLECTED,
)
