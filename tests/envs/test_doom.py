import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import vizdoom
from gymnasium.utils.env_checker import check_env

from oneiros.envs.doom import LABELS, UNITS_PER_METRE, DoomEnv, depth_in_metres
from oneiros.envs.doom_scenarios import scenario_names
from oneiros.envs.make import is_built_in

ROOM, CEILING = 1216 / UNITS_PER_METRE, 104 / UNITS_PER_METRE  # health_gathering is one square room


@pytest.fixture(scope="module")
def room():
    env = DoomEnv("health_gathering", depth=True, labels=True, seed=0)
    yield env
    env.close()


def keys(env, *names):
    return np.array([name in names for name in env.action_spec.names])


def step(env, times):
    for _ in range(times):
        env.step(keys(env))


def play(env, seed, steps=25):
    rng, seen = np.random.default_rng(seed), [env.reset(seed=seed)[0]]
    for _ in range(steps):
        seen.append(env.step(rng.random(env.action_spec.size) < 0.4)[0])
    return seen


def cast_rays(camera, state):
    """Depth of the empty room and which surface is seen, from the pose and the intrinsics alone."""
    x, y, z, yaw = state[:4]
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    right, down = (columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy
    east, north = np.cos(yaw) + right * np.sin(yaw), np.sin(yaw) - right * np.cos(yaw)
    with np.errstate(divide="ignore"):
        walls = np.minimum(np.maximum(-x / east, (ROOM - x) / east), np.maximum(-y / north, (ROOM - y) / north))
        planes = np.maximum(z / down, -(CEILING - z) / down)
    return np.minimum(walls, planes), np.where(walls < planes, LABELS.index("Wall"), LABELS.index("Floor or ceiling"))


def test_depth_labels_pose_and_intrinsics_agree_with_the_geometry_of_the_room(room):
    camera = room.cameras[1]
    right_depth, right_label, pixels = 0, 0, 0
    for observation in play(room, seed=3, steps=60):
        depth, surface = cast_rays(camera, observation["observation.state"])
        labels = observation["observation.labels.front"]
        empty = labels <= LABELS.index("Floor or ceiling")  # no medikit in the way
        tolerance = 0.3 + 0.06 * depth  # quantisation, and the pixel grid where floors are seen at a grazing angle
        near_enough = np.abs(observation["observation.depth.front"] - np.minimum(depth, camera.depth_max)) < tolerance
        right_depth += (near_enough & empty).sum()
        right_label += ((labels == surface) & empty).sum()
        pixels += empty.sum()
    assert right_depth / pixels > 0.99
    assert right_label / pixels > 0.98


def test_depth_is_linear_and_cut_off_at_the_screens_range():
    metres = depth_in_metres(np.arange(256, dtype=np.uint8), rows=240)
    assert np.allclose(np.diff(metres[:128]), 7.159 / 32, atol=1e-4)
    assert (metres[127:] == metres[127]).all()
    assert depth_in_metres(np.array([255], np.uint8), rows=480) == pytest.approx(57.4, abs=0.1)


def test_medikits_are_labelled_as_health(room):
    seen = np.stack([observation["observation.labels.front"] for observation in play(room, seed=3)])
    assert (seen == LABELS.index("Health")).any()
    assert seen.max() < len(LABELS)


def test_the_same_seed_gives_the_same_episode_whatever_was_played_before(room):
    first, again, other = play(room, seed=7), play(room, seed=7), play(room, seed=8)
    fresh = DoomEnv("health_gathering", depth=True, labels=True)
    elsewhere = play(fresh, seed=7)
    fresh.close()
    for a, b, c in zip(first, again, elsewhere, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
            np.testing.assert_array_equal(a[name], c[name])
    assert (first[0]["observation.images.front"] != other[0]["observation.images.front"]).any()


def test_keys_are_held_together(room):
    moved = {}
    for names in [(), ("MOVE_FORWARD",), ("TURN_LEFT",), ("MOVE_FORWARD", "TURN_LEFT")]:
        start = room.reset(seed=1)[0]["observation.state"]
        for _ in range(4):
            state = room.step(keys(room, *names))[0]["observation.state"]
        moved[names] = (np.hypot(*(state - start)[:2]) > 0.5, (state - start)[3] > 0.3)
    assert moved == {
        (): (False, False),
        ("MOVE_FORWARD",): (True, False),
        ("TURN_LEFT",): (False, True),
        ("MOVE_FORWARD", "TURN_LEFT"): (True, True),
    }


def test_is_a_gymnasium_environment(room):
    check_env(room, skip_render_check=True)
    assert room.render().shape == (64, 64, 3)


def test_an_action_with_too_few_keys_is_refused(room):
    room.reset(seed=0)
    with pytest.raises(ValueError, match="3 keys"):
        room.step(np.zeros(2, bool))


def test_the_step_that_ends_an_episode_returns_the_last_observation_again():
    env = DoomEnv("basic", frame_skip=10, height=48, width=80)
    assert env.fps == 4
    before, over = env.reset(seed=0)[0], False
    assert before["observation.images.front"].shape == (48, 80, 3)
    while not over:
        observation, _, terminated, truncated, _ = env.step(keys(env))
        over = terminated or truncated
        assert (observation is before) == over
        before = observation
    assert truncated
    env.close()


@pytest.mark.parametrize("frame_skip", [1, 4])
def test_a_mouse_turns_by_degrees_a_step_beside_keys(tmp_path, frame_skip):
    (tmp_path / "mouse.cfg").write_text(
        f"doom_scenario_path = {vizdoom.scenarios_path}/my_way_home.wad\n"
        "episode_start_time = 10\n"  # before, this map takes no action
        "available_buttons = { MOVE_FORWARD TURN_LEFT_RIGHT_DELTA }\n"
    )
    env = DoomEnv(str(tmp_path / "mouse.cfg"), frame_skip=frame_skip)
    spec = env.action_spec
    assert (spec.kind, spec.whole, spec.low, spec.high) == ("continuous", (True, False), (0, -30), (1, 30))
    check_env(env, skip_render_check=True)
    for given, done in ((12, 12), (-7.5, -7.5), (500, 30)):
        before = env.reset(seed=1)[0]["observation.state"]
        after = env.step(np.array([0.2, given], np.float32))[0]["observation.state"]  # right is clockwise
        turned = np.degrees(np.angle(np.exp(1j * float(before[3] - after[3]))))
        assert turned == pytest.approx(done, abs=0.05)
        assert np.allclose(before[:2], after[:2])
        for _ in range(5):
            env.step(np.array([1, 0], np.float32))
        assert not np.allclose(env.step(np.array([1, 0]))[0]["observation.state"][:2], after[:2])
    env.close()


def test_deathmatch_has_keys_and_a_mouse():
    env = DoomEnv("deathmatch")
    numbers = {name for name, whole in zip(env.action_spec.names, env.action_spec.whole, strict=True) if not whole}
    assert numbers == {"LOOK_UP_DOWN_DELTA", "TURN_LEFT_RIGHT_DELTA", "MOVE_LEFT_RIGHT_DELTA"}
    assert {"ATTACK", "MOVE_FORWARD"} <= set(env.action_spec.names)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="20 keys and numbers"):
        env.step(np.zeros(2))
    env.close()


def test_the_engine_leaves_nothing_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = DoomEnv("basic")
    play(env, seed=0, steps=2)
    env.close()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_engine_is_an_error_of_one_line():
    env = DoomEnv("basic")
    env.reset(seed=0)
    engines = subprocess.run(["pgrep", "-n", "-P", str(os.getpid()), "vizdoom"], capture_output=True, text=True).stdout
    os.kill(int(engines), signal.SIGKILL)
    with pytest.raises(OSError, match="engine has stopped"):
        step(env, times=100)
    env.close()


@pytest.mark.parametrize(
    ("scenario", "size", "message"),
    [
        ("health_gatherin", {}, "did you mean health_gathering"),
        ("xyz", {}, "choose from basic, "),
        ("doom2", {}, "doom2.wad"),
        ("basic", {"height": 0}, "0x64"),
        ("basic", {"width": 700}, "64x700"),
        ("basic", {"frame_skip": 0}, "at least 1 tic"),
    ],
)
def test_bad_input_is_named(scenario, size, message):
    with pytest.raises(ValueError, match=message):
        DoomEnv(scenario, **size)


def test_scenarios_that_need_no_bought_game_are_listed():
    assert {"basic", "health_gathering", "my_way_home", "cig"} <= set(scenario_names())
    assert not {"doom", "doom2"} & set(scenario_names())  # their games do not come with it


@pytest.mark.parametrize("scenario", ["cig", "multi", "multi_duel", "oblige"])
def test_scenarios_for_several_players_are_played_alone_and_the_same_from_the_same_seed(scenario):
    env = DoomEnv(scenario, seed=0)
    idle = np.zeros(env.action_spec.size)
    begins = []
    for seed in (3, 4, 5, 6, 3):
        env.reset(seed=seed)
        begins.append([env.step(idle)[0] for _ in range(3)][-1])
    env.close()
    assert begins[0]["observation.images.front"].std() > 5
    for name, value in begins[0].items():
        np.testing.assert_array_equal(value, begins[-1][name])
    assert scenario == "oblige" or len({tuple(begin["observation.state"][:2]) for begin in begins}) > 1


def test_a_game_whose_maps_are_called_otherwise_begins_in_its_first():
    env = DoomEnv("freedoom1", seed=0)
    assert env.reset(seed=0)[0]["observation.images.front"].std() > 5
    env.close()


def test_a_scenario_of_ones_own(tmp_path):
    scenarios = Path(vizdoom.scenarios_path)
    shutil.copy(scenarios / "basic.wad", tmp_path / "mine.wad")
    text = (scenarios / "basic.cfg").read_text().replace("basic.wad", "mine.wad").replace("MOVE_LEFT", "TURN_LEFT")
    (tmp_path / "mine.cfg").write_text(text)
    env = DoomEnv(str(tmp_path / "mine.cfg"), seed=0)
    assert env.action_spec.names == ("TURN_LEFT", "MOVE_RIGHT", "ATTACK")
    assert env.reset(seed=0)[0]["observation.images.front"].std() > 5
    env.close()
    (tmp_path / "pays.cfg").write_text(
        (scenarios / "basic.cfg").read_text().replace("living_reward = -1", "living_reward = 3")
    )
    env = DoomEnv(str(tmp_path / "pays.cfg"), seed=0)  # with the map that comes with ViZDoom
    env.reset(seed=0)
    assert env.step(np.zeros(3, bool))[1] == 4 * 3
    env.close()
    with pytest.raises(ValueError, match=r"nowhere\.cfg: there is no such file"):
        DoomEnv(str(tmp_path / "nowhere.cfg"))
    assert not is_built_in(f"doom:{tmp_path / 'mine.cfg'}")  # a file may name others
    assert is_built_in("doom:basic")
