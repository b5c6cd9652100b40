"""What models write, by hand for each syntax that llama.cpp's common chat knows, and what it means."""

# ruff: noqa: RUF001 - the bars in DeepSeek's marks are wide ones

from __future__ import annotations

from typing import NamedTuple

Call = tuple[str, str]
LOOK: Call = ("look", '{"at": "x", "times": 2}')
TAGGED: Call = ("look", '{"at":"x","times":2}')  # of tags, not of JSON: the parser writes it
STOP: Call = ("stop", "{}")


class Raw(NamedTuple):
    """An answer's text after the prompt of ``template``; ``whole``: it has the format to its end."""

    template: str
    text: str
    content: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    whole: bool = True


def departs(template: str, right: str, wrong: str, *, calls: tuple[Call, ...] = ()) -> Raw:
    """An answer that has its format only before ``wrong``, which is given as content."""
    return Raw(template, right + wrong, wrong, "", calls, whole=False)


HERMES = "Qwen-Qwen2.5-7B-Instruct"
QWEN3 = "Qwen-Qwen3-0.6B"
CODER = "Qwen3-Coder"
LLAMA = "meta-llama-Llama-3.1-8B-Instruct"
NEMO = "mistralai-Mistral-Nemo-Instruct-2407"
MINISTRAL = "mistralai-Ministral-3-14B-Reasoning-2512"
GPT_OSS = "openai-gpt-oss-120b"
DEEPSEEK = "deepseek-ai-DeepSeek-V3.1"
DSML = "deepseek-ai-DeepSeek-V3.2"
KIMI_K2 = "Kimi-K2-Thinking"
KIMI_K3 = "Kimi-K3"
GLM = "GLM-4.6"
MINIMAX = "MiniMax-M2"
MINIMAX_M3 = "MiniMax-M3"
LFM = "LFM2.5-8B-A1B"
GEMMA = "google-gemma-4-31B-it"
FUNCTIONARY = "meetkai-functionary-medium-v3.2"
COHERE = "CohereForAI-c4ai-command-r7b-12-2024-tool_use"
GIGACHAT = "GigaChat3.1-10B-A1.8B"
SEED = "ByteDance-Seed-OSS"
MINICPM = "openbmb-MiniCPM5-1B"
LING = "inclusionai-ling-3.0-flash"
APERTUS = "Apertus-8B-Instruct"
MUSE = "muse-glimmer"

HERMES_LOOK = '<tool_call>\n{"name": "look", "arguments": {"at": "x", "times": 2}}\n</tool_call>'
HERMES_STOP = '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'
CODER_LOOK = "<tool_call>\n<function=look>\n<parameter=at>\nx\n</parameter>\n<parameter=times>\n2\n</parameter>\n</function>\n</tool_call>"
KIMI_LOOK = '<|tool_call_begin|>functions.look:0<|tool_call_argument_begin|>{"at": "x", "times": 2}<|tool_call_end|>'
KIMI_STOP = "<|tool_call_begin|>functions.stop:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
DSML_LOOK = (
    '<｜DSML｜invoke name="look">\n<｜DSML｜parameter name="at" string="true">x</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="times" string="false">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
)
GLM_LOOK = "<tool_call>look\n<arg_key>at</arg_key>\n<arg_value>x</arg_value>\n<arg_key>times</arg_key>\n<arg_value>2</arg_value>\n</tool_call>"
M3 = "]<]minimax[>["
M3_LOOK = f'{M3}<invoke name="look">{M3}<at>x{M3}</at>{M3}<times>2{M3}</times>{M3}</invoke>\n'
K3_LOOK = (
    '<|open|>call tool="look" index="1"<|sep|><|open|>argument key="at" type="string"<|sep|>x<|close|>argument<|sep|>'
    '<|open|>argument key="times" type="number"<|sep|>2<|close|>argument<|sep|><|close|>call<|sep|>'
)
ATEM_LOOK = (
    ' to=look<|message|><atem:function_calls>\n<atem:invoke name="look">\n<atem:parameter name="at">x</atem:parameter>\n'
    '<atem:parameter name="times">2</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eom|>'
)

WELL_FORMED = [
    Raw(HERMES, "It is <b>warm</b>.", "It is <b>warm</b>."),
    Raw(HERMES, HERMES_LOOK, calls=(LOOK,)),
    Raw(HERMES, "Sure.\n" + HERMES_LOOK + "\n" + HERMES_STOP, "Sure.\n", calls=(LOOK, STOP)),
    Raw(QWEN3, "<think>\nSo it is.\n</think>\n\nIt is warm.", "It is warm.", "So it is.\n"),
    Raw(QWEN3, "<think>\nA <b> b.\n</think>\n\n" + HERMES_LOOK, "", "A <b> b.\n", (LOOK,)),
    Raw(CODER, "Sure.\n" + CODER_LOOK, "Sure.\n", calls=(TAGGED,)),
    Raw(
        CODER,
        "<tool_call>\n<function=look>\n<parameter=at>\na < b\n</parameter>\n</function>\n</tool_call>",
        calls=(("look", '{"at":"a < b"}'),),
    ),
    Raw(LLAMA, '{"name": "look", "parameters": {"at": "x", "times": 2}}', calls=(LOOK,)),
    Raw(LLAMA, "It is warm.", "It is warm."),
    Raw(NEMO, '[TOOL_CALLS][{"name": "look", "arguments": {"at": "x", "times": 2}, "id": "call00001"}]', calls=(LOOK,)),
    Raw(
        MINISTRAL,
        '[THINK]So.[/THINK]Sure.[TOOL_CALLS]look[ARGS]{"at": "x", "times": 2}[TOOL_CALLS]stop[ARGS]{}',
        "Sure.",
        "So.",
        (LOOK, STOP),
    ),
    Raw(
        GPT_OSS,
        "<|channel|>analysis<|message|>So.<|end|><|start|>assistant<|channel|>final<|message|>It is warm.",
        "It is warm.",
        "So.",
    ),
    Raw(
        GPT_OSS,
        "<|channel|>analysis<|message|>So.<|end|><|start|>assistant<|channel|>commentary to=functions.look "
        '<|constrain|>json<|message|>{"at": "x", "times": 2}',
        "",
        "So.",
        (LOOK,),
    ),
    Raw(
        DEEPSEEK,
        'So.</think>Sure.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>look<｜tool▁sep｜>{"at": "x", "times": 2}<｜tool▁call▁end｜>'
        "<｜tool▁call▁begin｜>stop<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "Sure.",
        "So.",
        (LOOK, STOP),
    ),
    Raw(
        DSML,
        "So.</think>Sure.\n\n<｜DSML｜function_calls>\n" + DSML_LOOK + "</｜DSML｜function_calls>",
        "Sure.",
        "So.",
        (TAGGED,),
    ),
    Raw(
        KIMI_K2,
        f"<think>So.</think>Sure.<|tool_calls_section_begin|>{KIMI_LOOK}{KIMI_STOP}<|tool_calls_section_end|>",
        "Sure.",
        "So.",
        (LOOK, STOP),
    ),
    Raw(
        KIMI_K3,
        "So.<|close|>think<|sep|><|open|>response<|sep|>Sure.<|close|>response<|sep|><|open|>tools<|sep|>"
        + K3_LOOK
        + "<|close|>tools<|sep|><|close|>message<|sep|>",
        "Sure.",
        "So.",
        (TAGGED,),
    ),
    Raw(GLM, "\n<think>So.</think>\nSure.\n" + GLM_LOOK, "Sure.\n", "So.", (TAGGED,)),
    Raw(
        MINIMAX,
        'So.\n</think>\n\nSure.\n<minimax:tool_call>\n<invoke name="look">\n<parameter name="at">x</parameter>\n'
        '<parameter name="times">2</parameter>\n</invoke>\n</minimax:tool_call>',
        "Sure.\n",
        "So.\n",
        (TAGGED,),
    ),
    Raw(
        MINIMAX_M3,
        f"<mm:think>So.</mm:think>Sure.{M3}<tool_call>\n{M3_LOOK}{M3}</tool_call>",
        "Sure.",
        "So.",
        (TAGGED,),
    ),
    Raw(LFM, "<think>So.</think>Sure.<|tool_call_start|>[look(at='x', times=2), stop()]<|tool_call_end|>", "Sure.", "So.", (TAGGED, STOP)),
    Raw(
        GEMMA,
        '<|channel>thought\nSo.<channel|>Sure.<|tool_call>call:look{at:<|"|>x<|"|>,times:2}<tool_call|>',
        "Sure.",
        "So.",
        (TAGGED,),
    ),
    Raw(FUNCTIONARY, 'look\n{"at": "x", "times": 2}', calls=(LOOK,)),
    Raw(FUNCTIONARY, "all\nIt is warm.", "It is warm."),
    Raw(
        COHERE,
        "<|START_THINKING|>So.<|END_THINKING|><|START_ACTION|>[\n"
        '    {"tool_call_id": "0", "tool_name": "look", "parameters": {"at": "x", "times": 2}}\n]<|END_ACTION|>',
        "",
        "So.",
        (LOOK,),
    ),
    Raw(GIGACHAT, 'Sure.<|function_call|>{"name": "look", "arguments": {"at": "x", "times": 2}}', "Sure.", calls=(LOOK,)),
    Raw(
        SEED,
        "<seed:think>So.</seed:think>\nSure.\n<seed:tool_call>\n<function=look>\n<parameter=at>x</parameter>\n"
        "<parameter=times>2</parameter>\n</function>\n</seed:tool_call>",
        "Sure.\n",
        "So.",
        (TAGGED,),
    ),
    Raw(
        MINICPM,
        'So.\n</think>\n\nSure.\n<function name="look"><param name="at">x</param><param name="times">2</param></function>',
        "Sure.\n",
        "So.\n",
        (TAGGED,),
    ),
    Raw(LING, "So.</think>Sure.\n" + GLM_LOOK, "Sure.\n", "So.", (TAGGED,)),
    Raw(APERTUS, 'Sure.<|tools_prefix|>[{"look": {"at": "x", "times": 2}}, {"stop": {}}]<|tools_suffix|>', "Sure.", calls=(LOOK, STOP)),
    Raw(MUSE, " to=self<|message|>So.<|eom|><|start|>assistant" + ATEM_LOOK, "", "So.", (TAGGED,)),
]  # fmt: skip

# Cut off, or wrong. What departs from the format is content from there on; what the format may still become is kept back.
BROKEN = [
    Raw(HERMES, ""),
    Raw(HERMES, "It is", "It is"),
    Raw(HERMES, "It is <tool_ca", "It is "),
    Raw(HERMES, '<tool_call>\n{"name": "look", "arguments": {"at": "x', calls=(("look", '{"at": "x'),)),
    Raw(HERMES, '<tool_call>\n{"name": "lo'),
    Raw(HERMES, HERMES_LOOK + '\n<tool_call>\n{"name": "stop", "arguments": {', calls=(LOOK, ("stop", "{"))),
    departs(HERMES, "", '<tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>'),
    departs(HERMES, "", "<tool_call>\nno JSON\n</tool_call>"),
    departs(HERMES, HERMES_LOOK + " ", "and more", calls=(LOOK,)),
    departs(HERMES, "", "<tool_call>\n" + "[" * 5000),
    Raw(QWEN3, "<think>\nSo it", reasoning="So it"),
    Raw(QWEN3, "<think>\nSo <tool_call>\n{</think>", reasoning="So <tool_call>\n{"),
    Raw(QWEN3, "<think>\n</think>\n\n", ""),
    Raw(CODER, "<tool_call>\n<function=look>\n<parameter=at>\nx", calls=(("look", '{"at":"x'),)),
    departs(CODER, "", "<tool_call>\n<function=look>\n<parameter=nothing>\nx\n</parameter>\n</function>\n</tool_call>"),
    departs(CODER, CODER_LOOK + "\n", "<tool_call>\n<function=look>\n<parameter=no>\nx\n</parameter>\n</function>\n</tool_call>", calls=(TAGGED,)),
    Raw(LLAMA, '{"name": "look", "parameters": {"at": "x"', calls=(("look", '{"at": "x"'),)),
    departs(LLAMA, "", '{"a": 1}'),
    Raw(NEMO, '[TOOL_CALLS][{"name": "look", "arguments": {"at":', calls=(("look", '{"at":'),)),
    Raw(MINISTRAL, "[THINK]So", reasoning="So"),
    Raw(MINISTRAL, '[TOOL_CALLS]look[ARGS]{"at": "x"', calls=(("look", '{"at": "x"'),)),
    Raw(GPT_OSS, "<|channel|>analysis<|message|>So", reasoning="So"),
    Raw(GPT_OSS, "<|channel|>final<|message|>It is", "It is"),
    departs(GPT_OSS, "", "<|channel|>nothing<|message|>It is"),
    departs(GPT_OSS, "", "no channel at all"),
    Raw(DEEPSEEK, "So", reasoning="So"),
    Raw(DEEPSEEK, 'So.</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>look<｜tool▁sep｜>{"at"', "", "So.", (("look", '{"at"'),)),
    Raw(DSML, 'So.</think><｜DSML｜function_calls>\n<｜DSML｜invoke name="look">\n<｜DSML｜parameter name="at" string="true">x', "", "So.", (("look", '{"at":"x'),)),
    Raw(KIMI_K2, "<think>So.</think><|tool_calls_section_begin|>" + KIMI_LOOK[:-20], "", "So.", (("look", '{"at": "x", "times":'),)),
    Raw(GLM, "\n<think>So.</think>\n<tool_call>look\n<arg_key>at</arg_key>\n<arg_value>x", "", "So.", (("look", '{"at":"x'),)),
    Raw(MINIMAX, 'So.\n</think>\n\n<minimax:tool_call>\n<invoke name="look">\n<parameter name="at">x', "", "So.\n", (("look", '{"at":"x'),)),
    Raw(LFM, "<think>So.</think><|tool_call_start|>[look(at='x", "", "So.", (("look", '{"at":"x'),)),
    departs(LFM, "<|tool_call_start|>[", "look(at=x)]<|tool_call_end|>"),
    Raw(GEMMA, '<|channel>thought\nSo.<channel|><|tool_call>call:look{at:<|"|>x', "", "So.", (("look", '{"at":"x'),)),
    Raw(FUNCTIONARY, 'look\n{"at": "x"', calls=(("look", '{"at": "x"'),)),
    Raw(COHERE, "<|START_THINKING|>So", reasoning="So"),
    Raw(SEED, "<seed:think>So", reasoning="So"),
    Raw(APERTUS, 'Sure.<|tools_prefix|>[{"look": {"at": "x"', "Sure.", calls=(("look", '{"at": "x"'),)),
]  # fmt: skip
