import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("metaworld")

from oneiros.envs.make import make_env
from oneiros.envs.metaworld import renderer_camera
from oneiros.envs.metaworld.tasks import LABELS, instruction, task_names

TASKS = ("button-press-v3", "drawer-open-v3", "door-open-v3", "window-open-v3", "faucet-open-v3")
RGB, DEPTH, CLASSES, STATE = (
    *(f"observation.{kind}.corner4" for kind in ("images", "depth", "labels")),
    "observation.state",
)


@pytest.fixture(scope="module")
def env():
    env = make_env(f"metaworld:{','.join(TASKS)}", height=48, width=48, depth=True, labels=True, camera="ray")
    yield env
    env.close()


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


def play(env, observation, steps):
    """What the expert sees in the last of some steps."""
    for _ in range(steps):
        observation, *_ = env.step(env.expert_action())
    return observation


def test_fixed_starts_repeat_bit_for_bit_whatever_was_played_before(env):
    for task in TASKS[1:3]:
        choice = {"task": task, "start": 7}
        first = env.reset(options=choice)[0]
        later = play(env, first, 5)
        play(env, env.reset(seed=3, options={"task": task})[0], 20)
        again = env.reset(options=choice)[0]
        assert same(first, again)
        assert same(later, play(env, again, 5))
    other = make_env(f"metaworld:{TASKS[2]}", height=48, width=48, depth=True, labels=True, camera="ray")
    assert same(first, other.reset(options={"start": 7})[0])
    other.close()


def test_the_50_fixed_starts_differ_from_each_other_and_from_those_of_seeds(env):
    def place(**chosen):
        env.reset(**chosen)
        return tuple(env._scene.data.body("drawer").xpos)  # where Meta-World put the drawer

    fixed = {place(options={"task": "drawer-open-v3", "start": start}) for start in range(50)}
    seeded = {place(seed=seed, options={"task": "drawer-open-v3"}) for seed in range(30)}
    assert (len(fixed), len(seeded)) == (50, 30)
    assert not fixed & seeded


def test_a_start_follows_from_its_seed_alone(env):
    task = {"task": "faucet-open-v3"}
    first = env.reset(seed=5, options=task)[0]
    other = env.reset(seed=6, options=task)[0]
    assert same(first, env.reset(seed=5, options=task)[0])
    assert not np.array_equal(first[DEPTH], other[DEPTH])


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_solves_the_task(env, task):
    for start in (0, 20, 49):
        env.reset(options={"task": task, "start": start})
        for _ in range(200):
            action = env.expert_action()
            assert action.dtype == np.float32
            assert np.abs(action).max() <= 1
            _, _, terminated, truncated, info = env.step(action, observe=False)
            assert not truncated
            assert terminated == info["success"]
            if terminated:
                break
        assert info["success"], (task, start)


def test_gripper_pixels_lie_in_space_where_proprioception_says(env):
    camera = env.cameras[1]
    rows, columns = np.indices((48, 48))
    for task in TASKS[:2]:
        observation = play(env, env.reset(options={"task": task, "start": 1})[0], 10)
        depth = observation[DEPTH]
        points = np.stack(
            [(columns - camera.cx) / camera.fx * depth, (rows - camera.cy) / camera.fy * depth, depth], -1
        )
        data, view = env._scene.data, env._scene.model.camera("corner4").id
        right, up, back = data.cam_xmat[view].reshape(3, 3).T
        world = points @ np.stack([-right, up, -back]) + data.cam_xpos[view]  # hung upside down and shown upright
        gripper = observation[CLASSES] == LABELS.index("Gripper")
        assert gripper.sum() > 5
        np.testing.assert_allclose(np.median(world[gripper], 0), observation[STATE][:3], atol=0.08)
        table = observation[CLASSES] == LABELS.index("Table")
        np.testing.assert_allclose(np.median(world[table][:, 2]), 0, atol=0.02)


def test_proprioception_follows_the_gripper(env):
    observation = env.reset(options={"task": "drawer-open-v3", "start": 0})[0]
    data = env._scene.data
    np.testing.assert_allclose(observation[STATE][:3], data.body("hand").xpos, atol=1e-6)
    for grip, check in ((1, lambda opening: opening < 0.6), (-1, lambda opening: opening > 0.9)):
        for _ in range(30):
            moved, *_ = env.step((0, 0, 0.5, grip), observe=False)
        assert check(moved[STATE][3]), (grip, moved[STATE])
    assert moved[STATE][2] > observation[STATE][2] + 0.05
    np.testing.assert_allclose(moved[STATE][:3], data.body("hand").xpos, atol=1e-6)


def test_the_drawer_can_be_told_from_arm_table_and_goal(env):
    observation, info = env.reset(options={"task": "drawer-open-v3", "start": 0})
    assert env.task == "drawer open"
    assert info["success"] is False
    shares = np.bincount(observation[CLASSES].ravel(), minlength=len(LABELS)) / 48**2
    assert (shares[:5] > (0.1, 0.2, 0.1, 0.001, 0.01)).all(), shares
    assert shares[LABELS.index("Goal")] > 0
    assert observation[RGB].dtype == np.uint8
    assert env.cameras[2].classes == LABELS


def test_goals_that_only_a_site_marks_can_be_seen():
    env = make_env("metaworld:reach-v3,coffee-push-v3", height=64, width=64, labels=True, camera="ray")
    for task in env.tasks:
        shown = [
            (env.reset(options={"task": task, "start": start})[0][CLASSES] == LABELS.index("Goal")).any()
            for start in range(4)
        ]
        assert all(shown), task
    env.close()


def test_steps_without_a_look_keep_the_images_and_move_the_state(env):
    observation = env.reset(options={"task": TASKS[0], "start": 0})[0]
    unseen = env.step(env.expert_action(), observe=False)[0]
    assert unseen[RGB] is observation[RGB]
    assert not np.array_equal(unseen[STATE], observation[STATE])
    seen = env.step(env.expert_action())[0]
    env.reset(options={"task": TASKS[0], "start": 0})
    assert same(seen, play(env, None, 2))


def test_a_step_may_last_several_of_the_simulation(env):
    slow = make_env("metaworld:drawer-open-v3", height=48, width=48, frame_skip=4, camera="ray")
    assert (env.fps, slow.fps) == (80, 20)
    slow.reset(options={"start": 3})
    env.reset(options={"task": "drawer-open-v3", "start": 3})
    action = slow.expert_action()
    for _ in range(4):
        expected, *_ = env.step(action, observe=False)
    np.testing.assert_array_equal(slow.step(action)[0][STATE], expected[STATE])
    for step in range(2, 126):
        _, _, terminated, truncated, _ = slow.step(np.zeros(4), observe=False)
        assert (terminated, truncated) == (False, step == 125)
    slow.close()


def test_tasks_take_turns():
    env = make_env("metaworld:reach-v3,push-v3", height=8, width=8, camera="ray")
    assert [env.reset(seed=0)[1]["task"] for _ in range(3)] == ["reach-v3", "push-v3", "reach-v3"]
    assert env.reset(options={"task": "push-v3"})[1]["task"] == "push-v3"
    env.close()


def test_names_of_tasks():
    assert (len(task_names("MT10")), len(task_names("MT50"))) == (10, 50)
    assert instruction("peg-insert-side-v3") == "peg insert side"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda env: make_env("metaworld:draw-open-v3"), "did you mean drawer-open-v3"),
        (lambda env: make_env("metaworld:button"), "button-press"),
        (lambda env: make_env("metaworld:reach-v3,reach-v3"), "twice"),
        (lambda env: make_env("metaworld:reach-v3", frame_skip=0), "frame skip is 0"),
        (lambda env: make_env("metaworld:reach-v3", height=0), "0x64"),
        (lambda env: make_env("doom:basic", camera="ray"), "metaworld:TASK only"),
        (lambda env: env.reset(options={"task": "reach-v3"}), "none of this environment's"),
        (lambda env: env.reset(options={"start": 50}), "0 to 49"),
        (lambda env: env.step([0, 0, 0]), "4 finite numbers"),
        (lambda env: env.step([0, 0, 0, np.nan]), "4 finite numbers"),
    ],
)
def test_bad_input_is_named(env, make, message):
    with pytest.raises(ValueError, match=message) as problem:
        make(env)
    assert "\n" not in str(problem.value)


def test_the_renderer_is_asked_for_in_vain(monkeypatch):
    monkeypatch.setattr(renderer_camera, "opengl_works", lambda: False)
    with pytest.raises(ValueError, match=r"libosmesa6.*MUJOCO_GL=osmesa"):
        make_env("metaworld:reach-v3", camera="renderer")


def test_an_opengl_that_fails_leaves_the_rays():
    code = "from oneiros.envs.make import make_env; print(make_env('metaworld:reach-v3').camera_kind)"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MUJOCO_GL": "none-such"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.stdout.strip(), answer.stderr) == ("ray", "")
