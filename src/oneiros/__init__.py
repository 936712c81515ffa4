"""Playable world models that see in 3D and act.

The public names below are resolved on first use, so that `import oneiros` is instant.
"""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "ActionSpec": "oneiros.records",
    "Clip": "oneiros.records",
    "Loss": "oneiros.records",
    "Sampling": "oneiros.sampling",
    "Dataset": "oneiros.data.episodes.dataset",
    "DatasetWriter": "oneiros.data.episodes.writer",
    "Tokenizer": "oneiros.world.tokenizer",
    "World": "oneiros.world.model",
    "Segmenter": "oneiros.points.segmenter",
    "load": "oneiros.loading",
    "open_cloud": "oneiros.data.clouds.formats",
    "KPConvX": "oneiros.points.nn.kpconvx",
    "Dream": "oneiros.world.dream",
    "DreamVector": "oneiros.agents.dream_vector",
    "RealVector": "oneiros.agents.real_vector",
    "Agent": "oneiros.agents.model",
    "Policy": "oneiros.policy.model",
    "PointUNet": "oneiros.points.nn.unet",
    "VideoFormer2D": "oneiros.video_former.video_former",
    "VideoFormer3D": "oneiros.video_former.video_former",
    "GeometryVideoFormer": "oneiros.video_former.geometry",
    "make_env": "oneiros.envs.make",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'oneiros' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
