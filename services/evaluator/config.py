"""Every setting of the evaluator, from `EVALUATOR_*`."""

from dataclasses import dataclass

from libs.config import ServiceConfig


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """Settings of every service, and where models answer."""

    lm_address: str = ""
    """`host:port` of the lm host; on the cluster profile Triton stands in its place."""
