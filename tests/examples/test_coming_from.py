"""docs/coming-from.md: every name of ours that it promises exists, every name of theirs that it should map is there."""

import inspect
import re
import tomllib
from functools import cache
from pkgutil import resolve_name
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import nn

import oneiros
from oneiros.points.nn import keras_rules
from oneiros.points.nn.kpconvx import TENSORS, KPConvX
from oneiros.points.nn.kpconvx_block import BLOCK_TENSORS
from oneiros.points.nn.model_file import _SECTIONS
from oneiros.points.nn.unet import PRESETS, PointUNetConfig
from oneiros.points.official_weights import load_official_weights
from oneiros.records import ActionSpec, CodeClip
from oneiros.video_former import VideoFormer2D, VideoFormer3D
from oneiros.world.config import WorldConfig
from oneiros.world.nn.codec import ImageCodec
from oneiros.world.tokenizer import TokenizerConfig
from tests.examples.test_documents import blocks
from tests.places import ROOT

DOCUMENT = ROOT / "docs" / "coming-from.md"
TEXT = DOCUMENT.read_text()
ROWS = [re.split(r"(?<!\\)\|", line)[1:-1] for line in TEXT.splitlines() if re.match(r"\|(?!-)", line)]
THEIRS = set(re.findall(r"\w+", " ".join(code for row in ROWS for code in re.findall(r"`([^`]+)`", row[0]))))
OURS = list(dict.fromkeys(code for row in ROWS for cell in row[1:] for code in re.findall(r"`([^`]+)`", cell)))
METRICS = (ROOT / "docs" / "metrics.md").read_text()
NOT_NAMES = {"t", "T", "args", "b", "torch"}  # letters of shapes, and what the reader has

# Names of the projects that readers come from, each of which has a place on the page.
GENIE2 = """
    dim dim_latent num_actions depth attn_dim_head heads latent_channel_first cfg_train_action_dropout
    transformer_kwargs add_value_residual learned_value_residual_mix ff_glu use_rmsnorm num_residual_streams
    action_transformer_kwargs num_meta_tokens vq_codebook_size vq_kwargs encoder decoder vq_commit_loss_weight
    allow_multiple_actions max_num_actions action_autoregressive_loss_weight add_temporal_convs
    temporal_conv_kernel_size temporal_autoencoder_recon_loss_weight is_video_enc_dec encode_state generate image
    num_frames filter_kwargs temperature init_action interactive interactive_save_last_frame forward_with_cfg
    cond_scale parallel_keep_frac forward state state_codes time_seq_len video_time_len actions sort_actions
    return_loss MetaTokenWrapper CausalConv3d gumbel_sample min_p_filter project valid_action_input
"""
OTHERS = """
    blocks drop_path sigma shell_radii shell_points groups deformable bn_momentum mq DH dim_in Q_initializer
    initializer regularizer constraint activation get_config from_config get_weights bn_phi bn_htilde bn_hhat
    export_representation KPConvD KPConvX KPNeXt
    Video_Former_2D Video_Former_3D Video_Former_3D_vggt Attention PerceiverAttentionLayer TempAttentionLayer
    feed_forward_layer dim_head num_frame num_time_embeds use_temporal trainable state_dict num_queries
    input_mask_mode frame_mask_prob condition_dim
"""


@cache
def namespace() -> dict[str, Any]:
    """What the page's own blocks make, the classes that it names, and a layer and a former."""
    made: dict[str, Any] = {"__name__": "document"}
    exec(compile("\n".join(blocks(DOCUMENT, "python")), DOCUMENT.name, "exec"), made)
    public = {name: getattr(oneiros, name) for name in oneiros.__all__}
    classes = {each.__name__: each for each in (CodeClip, WorldConfig, TokenizerConfig, PointUNetConfig, ImageCodec)}
    layer = KPConvX(channels=8, groups=4, hidden_channels=8)
    former = VideoFormer3D(dim=8, depth=1, heads=2)
    return made | public | classes | {"layer": layer, "former": former, "load_official_weights": load_official_weights}


def parameters(thing: Any) -> set[str]:
    """The names of a callable's arguments, of a module those of its forward."""
    return set(inspect.signature(thing.forward if isinstance(thing, nn.Module) else thing).parameters)


@cache
def words() -> set[str]:
    """Bare words that are arguments, fields, attributes of codecs, tensors, kinds of actions, presets or extras."""
    names = namespace()
    things = [thing for thing in names.values() if inspect.isclass(thing) or inspect.isfunction(thing)]
    found = set().union(*(parameters(thing) for thing in things), *map(parameters, (names["former"], VideoFormer2D)))
    found |= parameters(names["World"].generate) | parameters(names["former"].load_reference_weights)
    found |= parameters(oneiros.ops.kernel_point_conv.kernel_point_conv)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    kinds = get_args(get_type_hints(ActionSpec)["kind"])
    return (
        found
        | keras_rules._RULES.keys()
        | set(_SECTIONS)
        | set(TENSORS)
        | set(BLOCK_TENSORS)
        | set(dir(ImageCodec))
        | set(extras)
        | set(kinds)
    )


def look_up(code: str) -> None:
    """Raises LookupError, AttributeError or AssertionError for a name that is not there."""
    for part in re.findall(r'"(\w+/\w+)"', code):
        assert f"`{part}`" in METRICS, part
    path = re.match(r"[A-Za-z_]\w*(?:(?:\[i\])?\.\w+)*", code)
    if code.startswith(("oneiros ", "--", "(", '"', "[")) or path is None or code in PRESETS:
        return  # commands are run by test_documents; shapes and texts are no names
    root, *rest = path[0].replace("[i]", ".0").split(".")
    thing = resolve_name(path[0]) if root in ("oneiros", "torch") else None
    if thing is None and root in namespace() and (rest or code[len(path[0]) :].startswith("(")):
        thing = namespace()[root]
        for name in rest:
            if inspect.isclass(thing) and name in getattr(thing, "__dataclass_fields__", ()):
                thing = None
                break
            thing = getattr(thing, name)  # of a list of modules, too
    elif thing is None:
        known = words() | THEIRS | NOT_NAMES | set(namespace())
        assert not rest, code
        assert root in known, f"{code}: {root}"
    arguments = re.fullmatch(r"\((.*)\)", code[len(path[0]) :])
    if arguments and callable(thing):
        for keyword in re.findall(r"(\w+)=", arguments[1]):
            assert keyword in parameters(thing), f"{code}: {keyword}"


@pytest.mark.parametrize("code", OURS)
def test_every_name_of_ours_exists(code):
    look_up(code)


@pytest.mark.parametrize(
    "code",
    [
        "WorldConfig.width",
        "world.dynamics.scores(outputs)",
        "world.generate(clip, actions, seconds=...)",
        "layer.blocks[i].bn_psi",
        "oneiros.video_former.VideoFormer4D",
        "dim_of_nothing",
        'parts["world/nothing"]',
        "former(features, language=)",
    ],
)
def test_a_name_that_is_not_there_is_found_out(code):
    with pytest.raises((LookupError, AttributeError, AssertionError)):
        look_up(code)


@pytest.mark.parametrize("names", [GENIE2, OTHERS], ids=["genie2", "others"])
def test_every_name_of_theirs_has_a_place(names):
    assert sorted(set(names.split()) - THEIRS) == []


def test_the_keras_layers_names_are_as_the_page_says():
    """Keywords of the same names, and attributes; blocks are the blocks themselves."""
    row = next(row for row in ROWS if "`bn_momentum`, " in row[0] or row[0].strip().endswith("`bn_momentum`"))
    same = re.findall(r"`(\w+)`", row[0])
    layer = namespace()["layer"]
    assert set(same) <= parameters(KPConvX)
    assert set(same) <= layer.get_config().keys()
    assert {name for name in same if name in vars(layer) or name in layer._modules} == set(same)
    assert isinstance(layer.blocks, nn.ModuleList)


def test_logits_are_those_that_the_loss_scores():
    """The page's way to logits, `return_loss=False` there, is the loss's own."""
    made = namespace()
    world, clip, codes = (made[name] for name in ("world", "clip", "codes"))
    world.eval()
    with torch.no_grad():
        outputs = world.dynamics(codes, world.action_embedding(clip.actions, 5, 2))
        logits = world.dynamics.logits(world.dynamics.predictions(outputs))[:, :, world.dynamics.layout.inverse]
        loss = world(CodeClip(codes, clip.actions, clip.valid)).parts["world/state"]
    expected = nn.functional.cross_entropy(logits[:, 1:].flatten(0, 2), codes[:, 1:].flatten())
    torch.testing.assert_close(loss, expected)


def test_nobody_is_told_to_install_from_an_index():
    for path in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "src").rglob("*.py")]:
        assert not re.search(r"pip\s+install\s+['\"]?oneiros", path.read_text()), path
