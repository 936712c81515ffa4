"""The tasks of Meta-World by name: what they are called in words, and what the bodies of their scenes are."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from oneiros.envs.metaworld.libraries import load_metaworld

# The class of every pixel in the labels camera, by number.
LABELS = ("Background", "Table", "Robot arm", "Gripper", "Object", "Goal")

_BACKGROUND = ("world", "RetainingWall")
_TABLE = ("tablelink",)
_ARM = ("controller_box", "pedestal_feet", "torso", "pedestal", "right_arm_base_link", "head", "screen", "mocap")
_GRIPPER = ("right_hand", "hand", "rightclaw", "rightpad", "leftclaw", "leftpad")


def instruction(task: str) -> str:
    """What a task asks for, in words: drawer-open-v3 -> drawer open."""
    return task.rpartition("-v")[0].replace("-", " ")


def task_names(spec: str) -> tuple[str, ...]:
    """The tasks that a name of an environment stands for: tasks joined by commas, MT10 or MT50.

    Raises ValueError for a task that does not exist, naming near ones, and for one named twice.
    """
    sets = load_metaworld("metaworld.env_dict")
    if spec in ("MT10", "MT50"):
        return tuple(sets.MT10_V3 if spec == "MT10" else sets.MT50_V3)
    names = tuple(name.strip() for name in spec.split(","))
    for name in names:
        if name not in sets.ALL_V3_ENVIRONMENTS:
            raise ValueError(
                f"metaworld:{spec}: {name!r} is no task of Meta-World; {_near(name, [*sets.ALL_V3_ENVIRONMENTS])}"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"metaworld:{spec} names a task twice; each may come once")
    return names


def label(body: str) -> int:
    """The number in `LABELS` of whatever belongs to a body of this name. What no scene shares is the task's object."""
    if body in _BACKGROUND:
        return LABELS.index("Background")
    if body in _TABLE:
        return LABELS.index("Table")
    if body in _GRIPPER:
        return LABELS.index("Gripper")
    if body in _ARM or body.startswith("right_l"):
        return LABELS.index("Robot arm")
    return LABELS.index("Object")


def _near(name: str, names: Sequence[str]) -> str:
    stem = name.partition("-v")[0]
    near = difflib.get_close_matches(f"{stem}-v3", names, n=3, cutoff=0.6)
    near = near or [each for each in names if stem and stem in each][:3]
    return f"did you mean {' or '.join(near)}?" if near else f"choose from MT10, MT50, {', '.join(names)}"


# The groups of Meta-World's 50 tasks of Seo et al. (Masked World Models for Visual Control, arXiv 2206.14244), in which
# 3D Diffusion Policy (arXiv 2403.03954) and others report. Video Prediction Policy (arXiv 2412.14803) reports 28, 11
# and 11 tasks: its "hard" are the last two together.
_MEDIUM = (
    "basketball bin-picking box-close coffee-pull coffee-push hammer peg-insert-side push-wall soccer sweep sweep-into"
)


_HARD = "assembly hand-insert pick-out-of-hole pick-place push push-back"


_VERY_HARD = "disassemble pick-place-wall shelf-place stick-pull stick-push"


_EASY = (
    "button-press button-press-topdown button-press-topdown-wall button-press-wall coffee-button dial-turn door-close "
    "door-lock door-open door-unlock drawer-close drawer-open faucet-close faucet-open handle-press handle-press-side "
    "handle-pull handle-pull-side lever-pull peg-unplug-side plate-slide plate-slide-back plate-slide-back-side "
    "plate-slide-side reach reach-wall window-close window-open"
)


GROUPS = {
    "easy": tuple(_EASY.split()),
    "medium": tuple(_MEDIUM.split()),
    "hard": tuple(_HARD.split()),
    "very hard": tuple(_VERY_HARD.split()),
}


def group_of(task: str) -> str | None:
    """The group of a Meta-World task such as drawer-open-v3; None for anything else."""
    stem, _, version = task.rpartition("-v")
    name = stem if version.isdigit() else task
    return next((group for group, names in GROUPS.items() if name in names), None)
