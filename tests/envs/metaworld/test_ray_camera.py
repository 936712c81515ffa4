import ctypes.util
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("mujoco")

from oneiros.envs.metaworld.libraries import load_mujoco
from oneiros.envs.metaworld.ray_camera import RayCamera, Sphere

mujoco = load_mujoco()

# A camera 2 m above a floor, looking down, world x to its right and world y up; a box of 0.5 m to the right and above.
SCENE = """<mujoco>
  <asset>
    <texture name="red" type="2d" builtin="flat" rgb1="0.8 0.1 0.1" width="4" height="4"/>
    <material name="red" texture="red"/>
  </asset>
  <worldbody>
    <camera name="above" pos="0 0 2" fovy="60"/>
    <camera name="tilted" pos="0 0 2" fovy="60" xyaxes="1 0 0 0 0.8 0.6"/>
    <geom name="floor" type="plane" size="9 9 1" rgba="0.2 0.6 0.2 1"/>
    <geom name="collider" type="box" size="1 1 .1" pos="0 0 1" group="3"/>
    <geom name="glass" type="box" size="1 1 .1" pos="0 0 1" rgba="1 1 1 0"/>
    <body name="fixed" pos="-0.5 -0.3 0.1"><geom name="block" type="box" size=".1 .1 .1"/></body>
    <body name="box" pos="0.5 0.3 0.25">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom name="box" type="box" size=".25 .25 .25" material="red"/>
    </body>
  </worldbody>
</mujoco>"""
SIZE = 65  # an odd number of pixels: the middle one looks straight ahead
MIDDLE = SIZE // 2


@pytest.fixture
def scene():
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def camera(model, name="above", **options):
    return RayCamera(model, name, height=SIZE, width=SIZE, **options)


def points(eye, depth):
    """Camera coordinates of every pixel, (H, W, 3)."""
    rows, columns = np.indices(depth.shape) - MIDDLE
    return np.stack([columns / eye.focal * depth, rows / eye.focal * depth, depth], -1)


def test_depth_is_metres_along_the_optical_axis(scene):
    model, data = scene
    shot = camera(model).look(data)
    floor, box = (shot.hit == model.geom(name).id for name in ("floor", "box"))
    np.testing.assert_allclose(shot.depth[floor], 2, atol=1e-5)
    top = box & (shot.depth < 1.5 + 1e-3)
    assert top.sum() > 100
    np.testing.assert_allclose(shot.depth[top], 1.5, atol=1e-5)


def test_the_picture_is_upright_and_its_pixels_are_where_the_intrinsics_say(scene):
    model, data = scene
    eye = camera(model)
    shot = eye.look(data)
    x, y, _ = np.moveaxis(points(eye, shot.depth), -1, 0)
    top = (shot.hit == model.geom("box").id) & (shot.depth < 1.5 + 1e-3)
    pixel = 1.5 / eye.focal
    for found, expected in ((x[top], (0.25, 0.75)), (-y[top], (0.05, 0.55))):
        np.testing.assert_allclose((found.min(), found.max()), expected, atol=pixel)


def test_a_rolled_camera_shows_the_same_turned_by_half_a_turn(scene):
    model, data = scene
    plain, rolled = camera(model).look(data), camera(model, rolled=True).look(data)
    for name in ("rgb", "depth", "hit"):
        np.testing.assert_allclose(getattr(plain, name)[::-1, ::-1], getattr(rolled, name), atol=1)
    np.testing.assert_allclose(plain.depth[::-1, ::-1], rolled.depth, atol=1e-5)


@pytest.mark.parametrize("rolled", [False, True])
def test_pixels_unproject_to_where_things_are_in_the_world(scene, rolled):
    model, data = scene
    eye = camera(model, "tilted", rolled=rolled, far=50)
    shot = eye.look(data)
    across, up = np.array([1, 0, 0]), np.array([0, 0.8, 0.6])
    side = -1 if rolled else 1
    axes = np.stack([side * across, -side * up, -np.cross(across, up)])  # x right, y down, z ahead, in the world
    assert np.linalg.det(axes) == pytest.approx(1)
    world = points(eye, shot.depth) @ axes + (0, 0, 2)
    floor, box = (shot.hit == model.geom(name).id for name in ("floor", "box"))
    assert floor.any()
    np.testing.assert_allclose(world[floor][:, 2], 0, atol=1e-5)
    assert box.any()
    assert (np.abs(world[box] - (0.5, 0.3, 0.25)).max(1) < 0.25 + 1e-5).all()
    normals = eye.normals(shot.depth)[floor & np.roll(floor, 1, 0) & np.roll(floor, -1, 0)] @ axes
    assert (np.abs(normals - (0, 0, 1)).max(1) < 1e-3).mean() > 0.95


def test_normals_face_the_camera_on_every_surface(scene):
    model, data = scene
    eye = camera(model)
    shot = eye.look(data)
    np.testing.assert_allclose(np.linalg.norm(eye.normals(shot.depth), axis=-1), 1, atol=1e-5)
    assert (np.einsum("hwc,hwc->hw", eye.normals(shot.depth), points(eye, shot.depth)) < 0).all()
    np.testing.assert_allclose(eye.normals(shot.depth)[MIDDLE, MIDDLE], (0, 0, -1), atol=1e-4)


def test_what_only_collides_or_is_invisible_is_not_seen(scene):
    model, data = scene
    shot = camera(model).look(data)
    assert not np.isin(shot.hit, [model.geom("collider").id, model.geom("glass").id]).any()
    assert (model.geom_group[model.geom("collider").id]) == 3


def test_colours_are_those_of_geoms_and_of_their_textures(scene):
    model, data = scene
    shot = camera(model).look(data)
    for name, strongest in (("floor", 1), ("box", 0)):
        colours = shot.rgb[shot.hit == model.geom(name).id].astype(int)
        assert (colours.argmax(1) == strongest).all()
    assert shot.rgb[MIDDLE, MIDDLE, 1] > 120


def test_nothing_reads_as_far_away(scene):
    model, data = scene
    shot = camera(model, "tilted", far=3).look(data)
    assert shot.depth.max() == 3
    up = RayCamera(model, "above", height=5, width=5, far=1).look(data)
    assert (up.depth <= 1).all()


def test_things_that_move_are_seen_where_they_are(scene):
    model, data = scene
    eye = camera(model)
    before = eye.look(data)
    data.joint("slide").qpos = -1
    model.body("fixed").pos += (0, 0.6, 0)  # what is fixed moves where a task puts it elsewhere
    mujoco.mj_forward(model, data)
    after, fresh = eye.look(data), camera(model).look(data)
    assert (before.hit != after.hit).mean() > 0.05
    for name in ("rgb", "depth", "hit"):
        np.testing.assert_array_equal(getattr(after, name), getattr(fresh, name))


def test_spheres_are_drawn_where_nothing_is_in_front(scene):
    model, data = scene
    red = Sphere((0, 0, 1), 0.2, (1, 0, 0))
    below = Sphere((-0.5, -0.3, 0.05), 0.02, (0, 0, 1))  # inside the block
    shot = camera(model).look(data, [red, below])
    assert shot.hit[MIDDLE, MIDDLE] == -2
    assert shot.depth[MIDDLE, MIDDLE] == pytest.approx(0.8, abs=1e-5)
    assert shot.rgb[MIDDLE, MIDDLE].argmax() == 0
    radius = np.sqrt((shot.hit == -2).sum() / np.pi) / (SIZE / 2 / np.tan(np.pi / 6))
    assert radius == pytest.approx(0.2 / np.sqrt(1 - 0.04), rel=0.05)
    assert not (shot.hit == -3).any()


_COMPARE = """
import sys
import numpy as np
from oneiros.envs.metaworld.libraries import load_mujoco
from oneiros.envs.metaworld.ray_camera import RayCamera, Sphere

mujoco = load_mujoco()
from oneiros.envs.metaworld.renderer_camera import RendererCamera
model = mujoco.MjModel.from_xml_string(sys.stdin.read())
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
ball = [Sphere((0, 0, 1), 0.2, (1, 0, 0))]
rays, drawn = (kind(model, "tilted", height=65, width=65, rolled=True).look(data, ball)
               for kind in (RayCamera, RendererCamera))
same = rays.hit == drawn.hit
assert same.mean() > 0.98, same.mean()
assert (rays.hit == -2).any()
assert np.quantile(np.abs(rays.depth - drawn.depth)[same], 0.98) < 1e-3
print("alike")
"""


@pytest.mark.skipif(ctypes.util.find_library("OSMesa") is None, reason="needs libosmesa6")
def test_mujocos_renderer_sees_the_same():
    answer = subprocess.run(
        [sys.executable, "-c", _COMPARE],
        input=SCENE,
        env={**os.environ, "MUJOCO_GL": "osmesa"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "alike" in answer.stdout, answer.stderr


_LOAD = """
import os
from oneiros.envs.metaworld.libraries import load_mujoco
from oneiros.envs.metaworld.ray_camera import RayCamera
import sys
assert "mujoco" not in sys.modules
load_mujoco()
print(os.environ.get("MUJOCO_GL"))
"""


@pytest.mark.parametrize("chosen", [None, "none-such", "disable"])
def test_loading_mujoco_leaves_the_environment(chosen):
    environment = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    environment |= {"MUJOCO_GL": chosen} if chosen else {}
    answer = subprocess.run([sys.executable, "-c", _LOAD], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == str(chosen)
