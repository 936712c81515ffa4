"""A policy for Meta-World: record the expert, train a world and a policy on what it imagines, and let it act.

    python examples/08_policy.py [FOLDER]

Everything is tiny and takes half a minute, so it learns next to nothing: it shows the way. docs/policy.md has the
commands and sizes that open drawers.
"""

import sys
from pathlib import Path

from oneiros import DatasetWriter, load, make_env
from oneiros.envs.explore import Expert
from oneiros.envs.record import record_episode
from oneiros.policy.evaluation.contenders import observation_spec_of
from oneiros.policy.evaluation.observing import observe
from oneiros.policy.settings import PolicySettings
from oneiros.policy.training import policy
from oneiros.world.settings import TokenizerSettings, WorldSettings
from oneiros.world.training import tokenizer, world

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples") / "button"
data, runs = folder / "demos", {name: folder / name for name in ("tokenizer", "world", "policy")}

# Demonstrations: pictures and depth from a camera that casts rays, the gripper's place, and what the expert did.
env = make_env("metaworld:button-press-v3", height=32, width=32, depth=True)
with DatasetWriter.of(env, data) as writer:
    for _ in range(4):
        record_episode(env, writer, lambda: Expert(env), seed=0, max_steps=200, task=None, keep="success")

# A world of frames four steps apart, and a policy that looks at two of them and imagines two more.
short = {"preset": "tiny", "steps": 30, "precision": "float32"}
tokenizer.run(TokenizerSettings(data=data, out=runs["tokenizer"], height=32, width=32, depth=True, **short))
world.run(WorldSettings(data=data, tokenizer=runs["tokenizer"], out=runs["world"], frame_stride=4, **short))
settings = PolicySettings(data=data, world=runs["world"], out=runs["policy"], imagined_frames=2, every=4, **short)
fitted = policy.run(settings)
print(f"policy: {fitted.step} steps, loss {fitted.loss:.2f}")

# Act: once a step, and every fourth step is a decision.
actor = load(runs["policy"]).prepare_for_inference()
spec = observation_spec_of(runs["policy"], actor)  # how the recording was seen
seen, info = env.reset(options={"task": "button-press-v3", "start": 0})
carry = actor.init(batch_size=1)
for _ in range(40):
    carry, action = actor.act(carry, observe([seen], [env], [env.task], spec))
    seen, reward, terminated, truncated, info = env.step(action[0].numpy())
print(f"{env.task}: 40 steps, success {info['success']}; it imagined {tuple(actor.imagined_frames(carry).shape)}")
