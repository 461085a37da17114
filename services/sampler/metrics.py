"""Every metric that the sampler emits, beside those that all services have.

`method` is the rpc that makes or sends tokens, as in every service's `*_tokens_*`.
"""

from prometheus_client import Counter, Gauge

SEQUENCES_STREAMED = Counter("sampler_sequences_streamed_total", "Packed sequences sent.")
STREAMS_OPEN = Gauge("sampler_streams_open", "Streams being read.")
STREAMS_STALLED = Counter(
    "sampler_streams_stalled_total", "Streams cancelled because their reader took nothing."
)
TOKENS = Counter(
    "sampler_tokens_total",
    "Tokens encoded, without separators, by Tokenize, and tokens sent by Stream.",
    ["method"],
)
TOKENS_PER_SECOND = Gauge(
    "sampler_tokens_per_second",
    "Speed of the last tokenization, and of the stream that sent last, its reader's pauses in it.",
    ["method"],
)
CLUSTERINGS_MADE = Counter("sampler_clusterings_made_total", "Clusterings computed.")
PLANS_MADE = Counter("sampler_plans_made_total", "Plans computed, starved ones included.")
