"""Values that cross rooms: what is asked of a model, what comes back, what a model is.

All are frozen msgspec structs. Those that cross the socketpair are encoded as msgpack arrays; field order is
therefore part of the worker protocol, whose two ends are always the same version.
"""

from __future__ import annotations

from shimmy.types.chat import ChatParams, FunctionChoice, Message, ToolCall
from shimmy.types.events import (
    Delta,
    Detokenized,
    Embedded,
    Event,
    Failed,
    Finished,
    FinishReason,
    Progress,
    Ranked,
    Reranked,
    Templated,
    Timings,
    Tokenized,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from shimmy.types.models import (
    MAX_ADAPTERS,
    AdapterFacts,
    BufferMemory,
    Capability,
    ContextFacts,
    ContextParams,
    FilePooling,
    LoraSet,
    ModelFacts,
    ModelInfo,
    ModelParams,
    ModelStatus,
)
from shimmy.types.requests import (
    MAX_INPUTS,
    MAX_STOPS,
    DetokenizeRequest,
    EmbedRequest,
    GenerateRequest,
    RerankRequest,
    TemplateRequest,
    TokenizeRequest,
    Trigger,
)
from shimmy.types.sampling import SAMPLERS, SamplingParams

__all__ = [
    "MAX_ADAPTERS",
    "MAX_INPUTS",
    "MAX_STOPS",
    "SAMPLERS",
    "AdapterFacts",
    "BufferMemory",
    "Capability",
    "ChatParams",
    "ContextFacts",
    "ContextParams",
    "Delta",
    "DetokenizeRequest",
    "Detokenized",
    "EmbedRequest",
    "Embedded",
    "Event",
    "Failed",
    "FilePooling",
    "FinishReason",
    "Finished",
    "FunctionChoice",
    "GenerateRequest",
    "LoraSet",
    "Message",
    "ModelFacts",
    "ModelInfo",
    "ModelParams",
    "ModelStatus",
    "Progress",
    "Ranked",
    "RerankRequest",
    "Reranked",
    "SamplingParams",
    "TemplateRequest",
    "Templated",
    "Timings",
    "TokenLogprob",
    "TokenizeRequest",
    "Tokenized",
    "ToolCall",
    "ToolCallDelta",
    "Trigger",
    "Usage",
]
