"""View-dependent and body-aware texts, encoded."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from humannorm.body import Body as BodyValue
from humannorm.body import check_people, told_of_people
from humannorm.cameras import CAMERA_PLANS, PARTS, VIEWS
from humannorm.checks import InputError
from humannorm.prompts import TEXT_RULES
from humannorm.prompts import Prompts as Texts
from humannorm.request import posed_prompt

from .long_work import say
from .payloads import KINDS, PromptSet, wants_pose
from .schema import CATEGORY, Body, Prompts, advanced, part_input, schema

__all__ = ["HumanNormPickPrompt", "HumanNormPrompts"]


class HumanNormPrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormPrompts",
            display_name="HumanNorm Prompts",
            category=f"{CATEGORY}/prompts",
            description="One description of a person as texts for every body part and side, such as ', black"
            " background, normal map, full body, front view', encoded by the CLIP of your model.",
            search_aliases=["view dependent prompt", "body aware prompt"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Clip.Input("clip", tooltip="Text encoder that belongs to the model which will read these prompts."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="a young man in a red t-shirt and blue jeans",
                    tooltip="The person: who, and what they wear. Views and body parts are added by the node.",
                ),
                io.String.Input(
                    "negative", multiline=True, default="", tooltip="What to stay away from, in every view."
                ),
                io.Combo.Input(
                    "kind",
                    options=list(KINDS),
                    default="normal",
                    tooltip="What the model that reads the prompts draws: normal maps, depth maps or pictures.",
                ),
                io.Combo.Input(
                    "part_rule",
                    options=list(TEXT_RULES),
                    default="paper",
                    tooltip="Where the body part is named. paper: in every kind. published: as the authors' scripts do,"
                    " in depth only for whole bodies.",
                ),
                advanced(
                    io.Combo,
                    "plan",
                    options=list(CAMERA_PLANS),
                    default="full_body",
                    tooltip="What is modelled; decides where the published rule names the part.",
                ),
                Body.Input(
                    "body",
                    optional=True,
                    tooltip="Whose pose the texts name, for models that want one named (the bundled ones); without it"
                    " a prompt that names no pose is of somebody standing.",
                ),
            ],
            outputs=[
                Prompts.Output(
                    "prompts", display_name="prompts", tooltip="Texts and embeddings of all parts and views."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        clip: Any,
        prompt: str,
        negative: str,
        kind: str,
        part_rule: str,
        plan: str = "full_body",
        body: BodyValue | None = None,
    ) -> io.NodeOutput:
        if clip is None:
            raise InputError("clip: expected a text encoder, got None: the loader before it has none in its checkpoint")
        check_people(prompt)
        told = told_of_people(prompt)
        if told:
            say(cls.hidden.unique_id, "\n".join(told))
        if wants_pose(clip):
            prompt = posed_prompt(prompt, body)
        texts = Texts(prompt, KINDS[kind], plan=plan, rule=part_rule, negative=negative)  # type: ignore[arg-type]

        def encode(text: str) -> Any:
            return clip.encode_from_tokens_scheduled(clip.tokenize(text))

        encoded = {text: encode(text) for text in sorted(set(texts.table().values()))}
        return io.NodeOutput(PromptSet(texts, encoded, encode(negative)))


class HumanNormPickPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormPickPrompt",
            display_name="HumanNorm Pick Prompt",
            category=f"{CATEGORY}/prompts",
            description="The conditioning of one body part seen from one side, for the host's own KSampler and others.",
            search_aliases=["view prompt", "humannorm conditioning"],
            inputs=[
                Prompts.Input("prompts", tooltip="From HumanNorm Prompts."),
                part_input(),
                io.Combo.Input(
                    "view",
                    options=list(VIEWS),
                    default="front",
                    tooltip="Side of the person; left is the person's own.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", display_name="positive", tooltip="Of the text below."),
                io.Conditioning.Output("negative", display_name="negative", tooltip="Of the negative text."),
                io.String.Output("text", display_name="text", tooltip="The words, as they were encoded."),
            ],
        )

    @classmethod
    def execute(cls, prompts: PromptSet, part: str, view: str) -> io.NodeOutput:
        assert part in PARTS and view in VIEWS  # the host has checked both
        text = prompts.prompts.text(part, view)
        return io.NodeOutput(prompts.conditioning([text]), prompts.negative, text)
