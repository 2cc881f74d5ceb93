"""What a model's own configuration says of it: its architecture, and whether its audio is normalised."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from duologue.errors import UserError
from duologue.tokenize.architecture import SAMPLE_RATE, Architecture
from duologue.tokenize.torch_files import State
from duologue.tokenize.unpickle import StandIn, attributes, mapping

_CONV = ((512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2)
_MOST_CONVOLUTIONS = 32
# The strides of all HuBERT models, by kernel; a torchaudio state does not hold them.
_STRIDES = {10: 5, 3: 2, 2: 2}
# Heads of the base, large and extra large model, by width; a torchaudio state does not hold them either.
_HEADS = {768: 12, 1024: 16, 1280: 16}


def of_fairseq(config: Any) -> tuple[Architecture, bool]:
    """Return the architecture and normalisation from fairseq's `cfg` (model and task apart) or `args` (flat).

    What it does not name has the value that fairseq's `HubertConfig` gives it.

    Raises:
        UserError: the model is of a kind that cannot be computed here.
        ValueError: there is no configuration, or its values make no model.
    """
    config = _plain(config)
    if not config:
        raise ValueError("it holds no configuration: neither cfg nor args")
    # An old Namespace holds the model's settings and the task's side by side, and no dictionary called model.
    model = _plain(config.get("model")) or config
    task = _plain(config.get("task")) or config

    def of(name: str, default: Any) -> Any:
        value = _plain(model.get(name))
        return default if value is None else value

    _refuse_unless(
        {
            "layer_type transformer": of("layer_type", "transformer") == "transformer",
            "activation_fn gelu": of("activation_fn", "gelu") == "gelu",
            "no conv_pos_batch_norm": not of("conv_pos_batch_norm", False),
            "pos_conv_depth 1": of("pos_conv_depth", 1) == 1,
            "sample_rate 16000": _plain(task.get("sample_rate")) in (None, SAMPLE_RATE),
        }
    )
    layers = of("conv_feature_layers", None)
    architecture = Architecture(
        conv=_CONV if layers is None else parse_conv_layers(layers),
        conv_norm={"default": "group", "layer_norm": "layer"}[of("extractor_mode", "default")],  # type: ignore[arg-type]
        conv_bias=bool(of("conv_bias", False)),
        dim=of("encoder_embed_dim", 768),
        heads=of("encoder_attention_heads", 12),
        feed=of("encoder_ffn_embed_dim", 3072),
        layers=of("encoder_layers", 12),
        positions=of("conv_pos", 128),
        position_groups=of("conv_pos_groups", 16),
        norm_first=bool(of("layer_norm_first", False)),
    )
    return architecture, bool(_plain(task.get("normalize")))


def of_fine_tuned(config: Any) -> Any:
    """Return, from the configuration of a model that fairseq fine-tuned, that of the model it began with."""
    flat = _plain(config) or {}
    model = _plain(flat.get("model")) or flat
    return model.get("w2v_args")


def of_hugging_face(config: Mapping[str, Any], preprocessor: Mapping[str, Any] | None) -> tuple[Architecture, bool]:
    """Return the architecture and normalisation from `config.json` and `preprocessor_config.json`.

    Models with group norm were trained on audio as it is, and those with layer norm on normalised audio. That the
    preprocessor normalises says nothing of the training: Hugging Face's converter writes so for every model. That it
    does not is believed.

    Raises:
        UserError: the model is of a kind that cannot be computed here.
        KeyError: a setting is missing.
        ValueError: its values make no model.
    """
    _refuse_unless(
        {
            "model_type hubert or wav2vec2": config.get("model_type") in ("hubert", "wav2vec2"),
            "hidden_act gelu": config.get("hidden_act", "gelu") == "gelu",
            "feat_extract_activation gelu": config.get("feat_extract_activation", "gelu") == "gelu",
            "feat_proj_layer_norm": config.get("feat_proj_layer_norm", True),
            "no conv_pos_batch_norm": not config.get("conv_pos_batch_norm"),
            "no adapter_attn_dim": config.get("adapter_attn_dim") is None,
            "layer_norm_eps 1e-5": config.get("layer_norm_eps", 1e-5) == 1e-5,
            "sampling_rate 16000": (preprocessor or {}).get("sampling_rate", SAMPLE_RATE) == SAMPLE_RATE,
        }
    )
    conv = zip(config["conv_dim"], config["conv_kernel"], config["conv_stride"], strict=True)
    architecture = Architecture(
        conv=tuple(conv),
        conv_norm=config["feat_extract_norm"],
        conv_bias=config["conv_bias"],
        dim=config["hidden_size"],
        heads=config["num_attention_heads"],
        feed=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        positions=config["num_conv_pos_embeddings"],
        position_groups=config["num_conv_pos_embedding_groups"],
        norm_first=config["do_stable_layer_norm"],
    )
    return architecture, architecture.conv_norm == "layer" and bool((preprocessor or {}).get("do_normalize", True))


def of_torchaudio(state: State) -> tuple[Architecture, bool]:
    """Return the architecture and normalisation from the shapes of a torchaudio model's weights.

    A state holds no settings. Strides and heads are taken from the kernels and widths of the published models, as is
    that models with layer norm after the convolutions normalise their audio and norm first.

    Raises:
        UserError: the widths or kernels are those of no published model.
        KeyError, ValueError: weights are missing.
    """
    conv: list[tuple[int, int, int]] = []
    while (name := f"conv.{len(conv)}.weight") in state:
        out, _, kernel = state[name].shape
        conv.append((out, kernel, _STRIDES.get(kernel, 0)))
    direction = state.get("positions.weight_v") or state["positions.parametrizations.weight.original1"]
    dim, per_group, positions = direction.shape
    if any(stride == 0 for _, _, stride in conv) or dim not in _HEADS:
        raise UserError(
            "a torchaudio state does not say its heads and strides, and no published model has these widths",
            hint="Import the model from fairseq's or Hugging Face's files",
        )
    by_layer = "conv.1.norm.weight" in state
    architecture = Architecture(
        conv=tuple(conv),
        conv_norm="layer" if by_layer else "group",
        conv_bias="conv.0.bias" in state,
        dim=dim,
        heads=_HEADS[dim],
        feed=state["layers.0.feed.up.weight"].shape[0],
        layers=1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers.")),
        positions=positions,
        position_groups=dim // per_group,
        norm_first=by_layer,
    )
    return architecture, by_layer


def parse_conv_layers(text: str) -> tuple[tuple[int, int, int], ...]:
    """Read fairseq's `conv_feature_layers`, an expression such as `[(512,10,5)] + [(512,3,2)] * 4`.

    fairseq gives it to `eval`; here it may hold lists of tuples of three whole numbers, `+`, and `*`, nothing else.

    Raises:
        ValueError, SyntaxError: it is something else.
    """
    if not isinstance(text, str) or len(text) > 1000:
        raise ValueError("conv_feature_layers is no expression of lists")

    def value(node: ast.expr) -> list[tuple[int, int, int]]:
        match node:
            case ast.List(elts=elements):
                layers = [ast.literal_eval(element) for element in elements]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                layers = value(left) + value(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(times))):
                layers = value(left) * min(times, _MOST_CONVOLUTIONS + 1)
            case _:
                raise ValueError("conv_feature_layers is no expression of lists")
        if len(layers) > _MOST_CONVOLUTIONS or any(
            not isinstance(layer, tuple) or [type(number) for number in layer] != [int] * 3 for layer in layers
        ):
            raise ValueError("conv_feature_layers does not list (dimension, kernel, stride)")
        return layers

    return tuple(value(ast.parse(text.strip(), mode="eval").body))


def _plain(value: Any) -> Any:
    """Look into one level of a Namespace or of a node of OmegaConf."""
    if isinstance(value, StandIn) and value.name.startswith("omegaconf."):
        inner = attributes(value)
        return _plain(inner["_content"]) if "_content" in inner else inner.get("_val")
    if isinstance(value, StandIn) and value.name == "argparse.Namespace":
        return attributes(value)
    if isinstance(value, StandIn) and len(value.args) == 1:
        # A member of an enumeration: what it was made of is its value.
        return _plain(value.args[0])
    named = mapping(value)
    return value if named is None else named


def _refuse_unless(wanted: Mapping[str, Any]) -> None:
    if other := [name for name, so in wanted.items() if not so]:
        raise UserError(
            f"the model is of a kind that Duologue does not compute: it should have {' and '.join(other)}",
            hint="Use a HuBERT or wav2vec 2.0 model of the published kinds",
        )
