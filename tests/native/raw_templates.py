"""A raw answer with calls for each template of the collection that raw_answers.py has none of: their syntaxes are variants of those."""

# ruff: noqa: RUF001 - the bars in DeepSeek's marks are wide ones

from __future__ import annotations

from tests.native.raw_answers import (
    DSML_LOOK,
    GLM_LOOK,
    HERMES_LOOK,
    HERMES_STOP,
    KIMI_LOOK,
    KIMI_STOP,
    LOOK,
    STOP,
    TAGGED,
    Raw,
)

TWO_HERMES = HERMES_LOOK + "\n" + HERMES_STOP
NAMES = '[{"name": "look", "arguments": {"at": "x", "times": 2}}, {"name": "stop", "arguments": {}}]'
CODER_TWO = (
    "<tool_call>\n<function=look>\n<parameter=at>\nx\n</parameter>\n<parameter=times>\n2\n</parameter>\n</function>\n"
    "</tool_call>\n<tool_call>\n<function=stop>\n</function>\n</tool_call>"
)
GLM_CLOSE = (
    "<tool_call>look<arg_key>at</arg_key><arg_value>x</arg_value><arg_key>times</arg_key><arg_value>2</arg_value>"
    "</tool_call><tool_call>stop</tool_call>"
)
KIMI_TWO = f"<|tool_calls_section_begin|>{KIMI_LOOK}{KIMI_STOP}<|tool_calls_section_end|>"
DSML_TWO = f'<｜DSML｜tool_calls>\n{DSML_LOOK}<｜DSML｜invoke name="stop">\n\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>'
R1_LOOK = '<｜tool▁call▁begin｜>function<｜tool▁sep｜>look\n```json\n{"at": "x", "times": 2}\n```<｜tool▁call▁end｜>'
R1_STOP = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>stop\n```json\n{}\n```<｜tool▁call▁end｜>"
HY = ":opensource"
HY_TWO = (
    f"<tool_calls{HY}>\n<tool_call{HY}>look<tool_sep{HY}>\n<arg_key{HY}>at</arg_key{HY}>\n<arg_value{HY}>x</arg_value{HY}>\n"
    f"<arg_key{HY}>times</arg_key{HY}>\n<arg_value{HY}>2</arg_value{HY}>\n</tool_call{HY}>\n"
    f"<tool_call{HY}>stop<tool_sep{HY}>\n</tool_call{HY}>\n</tool_calls{HY}>"
)
COHERE_TWO = (
    '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "look", "parameters": {"at": "x", "times": 2}},\n'
    '    {"tool_call_id": "1", "tool_name": "stop", "parameters": {}}\n]<|END_ACTION|>'
)
COMMAND_TWO = (
    'Action:\n```json\n[\n    {\n        "tool_name": "look",\n        "parameters": {"at": "x", "times": 2}\n    },\n'
    '    {\n        "tool_name": "stop",\n        "parameters": {}\n    }\n]```'
)
SOLAR_TWO = (
    '<|tool_calls|><|tool_call:begin|>call00001<|tool_call:name|>look<|tool_call:args|>{"at": "x", "times": 2}'
    "<|tool_call:end|><|tool_call:begin|>call00001<|tool_call:name|>stop<|tool_call:args|>{}<|tool_call:end|><|calls|>"
)
BOTH = (LOOK, STOP)
BOTH_TAGGED = (TAGGED, STOP)

FURTHER = [
    Raw(
        "Apriel-1.6-15b-Thinker-fixed",
        f"So.\n[BEGIN FINAL RESPONSE]\nSure.\n<tool_calls>{NAMES}</tool_calls>",
        "Sure.\n",
        "Here are my reasoning steps:\nSo.\n",
        BOTH,
    ),
    Raw("Bielik-11B-v3.0-Instruct", f"So.\n</think>\nSure.\n{TWO_HERMES}", "Sure.\n", "So.\n", BOTH),
    Raw("Cohere2MoE", f"So.<|END_THINKING|>{COHERE_TWO}", "", "So.", BOTH),
    Raw("CohereForAI-c4ai-command-r-plus-tool_use", COMMAND_TWO, "", "", BOTH),
    Raw("GLM-4.7-Flash", f"So.</think>Sure.{GLM_CLOSE}", "Sure.", "So.", BOTH_TAGGED),
    Raw(
        "GigaChat3-10B-A1.8B",
        'Sure.<|message_sep|>\n\nfunction call<|role_sep|>\n{"name": "look", "arguments": {"at": "x", "times": 2}}',
        "Sure.",
        "",
        (LOOK,),
    ),
    Raw("HuggingFaceTB-SmolLM3-3B", f"<think>\nSo.\n</think>\nSure.\n{TWO_HERMES}", "\nSure.\n", "\nSo.\n", BOTH),
    Raw("Kimi-K2-Instruct", f"Sure.{KIMI_TWO}", "Sure.", "", BOTH),
    Raw("LFM2-8B-A1B", "Sure.<|tool_call_start|>[look(at='x', times=2)]<|tool_call_end|>", "Sure.", "", (TAGGED,)),
    Raw("LFM2.5-Instruct", "Sure.<|tool_call_start|>[look(at='x', times=2)]<|tool_call_end|>", "Sure.", "", (TAGGED,)),
    Raw("MiMo-VL", f"Sure.\n{TWO_HERMES}", "Sure.\n", "", BOTH),
    Raw("MiniMax-M1", f"<tool_calls>\n{NAMES[1:-1]}\n</tool_calls>", "", "", BOTH),
    Raw(
        "Mistral-Small-3.2-24B-Instruct-2506",
        '[TOOL_CALLS]look[CALL_ID]call00001[ARGS]{"at": "x", "times": 2}[TOOL_CALLS]stop[CALL_ID]call00002[ARGS]{}',
        "",
        "",
        BOTH,
    ),
    Raw("NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", f"So.\n</think>\nSure.\n{CODER_TWO}", "Sure.\n", "So.\n", BOTH_TAGGED),
    Raw(
        "NVIDIA-Nemotron-Nano-v2",
        f"So.</think>Sure.\n<TOOLCALL>{NAMES}</TOOLCALL>",
        "Sure.\n",
        "So.",
        BOTH,
    ),
    Raw("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", TWO_HERMES, "", "", BOTH),
    Raw("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", TWO_HERMES, "", "", BOTH),
    Raw("Qwen-QwQ-32B", f"So.\n</think>\n\nSure.\n{TWO_HERMES}", "\n\nSure.\n", "\nSo.\n", BOTH),
    Raw("Qwen3.5-4B", f"So.\n</think>\n\nSure.\n\n{CODER_TWO}", "Sure.\n\n", "So.\n", BOTH_TAGGED),
    Raw("Reka-Edge", f"So.\n</think>\n\nSure.\n{TWO_HERMES}", "Sure.\n", "So.\n", BOTH),
    Raw("Spark2.5", f"So.</think>Sure.{GLM_CLOSE}", "Sure.", "So.", BOTH_TAGGED),
    Raw("StepFun3.5-Flash", f"So.\n</think>\nSure.{CODER_TWO}", "Sure.", "So.\n", BOTH_TAGGED),
    Raw("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", f"So.\n</think>\n\nSure.\n{TWO_HERMES}", "\n\nSure.\n", "\nSo.\n", BOTH),
    Raw(
        "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
        f"So.\n</think>\n\n<｜tool▁calls▁begin｜>{R1_LOOK}\n{R1_STOP}<｜tool▁calls▁end｜>",
        "\n\n",
        "\nSo.\n",
        BOTH,
    ),
    Raw("deepseek-ai-DeepSeek-V4-Flash-0731", f"So.</think>Sure.\n\n{DSML_TWO}", "Sure.", "So.", BOTH_TAGGED),
    Raw("deepseek-ai-DeepSeek-V4", f"So.</think>Sure.\n\n{DSML_TWO}", "Sure.", "So.", BOTH_TAGGED),
    Raw("fireworks-ai-llama-3-firefunction-v2", f"Sure. functools{NAMES}", "Sure. ", "", BOTH),
    Raw("google-gemma-2-2b-it", f"Sure.\n{TWO_HERMES}", "Sure.\n", "", BOTH),
    Raw(
        "google-gemma-4-31B-it-interleaved",
        '<|channel>thought\nSo.<channel|><|tool_call>call:look{at:<|"|>x<|"|>,times:2}<tool_call|>'
        "<|tool_call>call:stop{}<tool_call|>",
        "",
        "So.",
        BOTH_TAGGED,
    ),
    Raw("ibm-granite-granite-3.3-2B-Instruct", f"Sure.\n{TWO_HERMES}", "Sure.\n", "", BOTH),
    Raw("ibm-granite-granite-4.0", f"Sure.\n{TWO_HERMES}", "Sure.\n", "", BOTH),
    Raw("ibm-granite-granite-4.1", f"Sure.\n{TWO_HERMES}", "Sure.\n", "", BOTH),
    Raw(
        "llama-cpp-deepseek-r1",
        'So.\n</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>look\n```json\n{"at": "x", "times": 2}\n'
        "```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "\n\n",
        "\nSo.\n",
        (LOOK,),
    ),
    Raw("llama-cpp-rwkv-world", f"Sure.\n{TWO_HERMES}", "Sure.\n", "", BOTH),
    Raw(
        "meetkai-functionary-medium-v3.1",
        'Sure.<function=look>{"at": "x", "times": 2}</function><function=stop>{}</function>',
        "Sure.",
        "",
        BOTH,
    ),
    Raw("meta-llama-Llama-3.2-3B-Instruct", '{"name": "look", "parameters": {"at": "x", "times": 2}}', "", "", (LOOK,)),
    Raw("meta-llama-Llama-3.3-70B-Instruct", '{"name": "look", "parameters": {"at": "x", "times": 2}}', "", "", (LOOK,)),
    Raw("microsoft-Phi-3.5-mini-instruct", f"Sure.\n{TWO_HERMES}", "Sure.\n", "", BOTH),
    Raw("moonshotai-Kimi-K2", f"Sure.{KIMI_TWO}", "Sure.", "", BOTH),
    Raw("poolside-Laguna-S-2.1", f"So.</think>Sure.{GLM_CLOSE}", "Sure.", "So.", BOTH_TAGGED),
    Raw("poolside-Laguna-XS-2.1", f"\nSo.\n</think>\nSure.\n{GLM_LOOK}", "\nSure.\n", "\nSo.\n", (TAGGED,)),
    Raw("poolside-Laguna-XS.2", f"\nSo.\n</think>\nSure.\n{GLM_LOOK}", "\nSure.\n", "\nSo.\n", (TAGGED,)),
    Raw("tencent-Hy3", f"Sure.{HY_TWO}", "Sure.", "", BOTH_TAGGED),
    Raw("unsloth-Apriel-1.5", f"Sure.\n<tool_calls>{NAMES}</tool_calls>", "Sure.\n", "", BOTH),
    Raw(
        "unsloth-mistral-Devstral-Small-2507",
        '[THINK]So.[/THINK]Sure.[TOOL_CALLS]look[ARGS]{"at": "x", "times": 2}[TOOL_CALLS]stop[ARGS]{}',
        "Sure.",
        "So.",
        BOTH,
    ),
    Raw("upstage-Solar-Open-100B", SOLAR_TWO, "", "", BOTH),
]  # fmt: skip
