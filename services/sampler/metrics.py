"""Every metric that the sampler emits, beside those that all services have."""

from prometheus_client import Counter, Gauge

SEQUENCES_STREAMED = Counter("sampler_sequences_streamed_total", "Packed sequences sent.")
STREAMS_OPEN = Gauge("sampler_streams_open", "Streams being read.")
STREAMS_STALLED = Counter(
    "sampler_streams_stalled_total", "Streams cancelled because their reader took nothing."
)
TOKENS_MADE = Counter("sampler_tokens_made_total", "Tokens encoded, without separators.")
CLUSTERINGS_MADE = Counter("sampler_clusterings_made_total", "Clusterings computed.")
PLANS_MADE = Counter("sampler_plans_made_total", "Plans computed, starved ones included.")
