"""Scenarios of ViZDoom by name, and one's own by the path of their .cfg."""

from __future__ import annotations

import difflib
import re
import struct
from pathlib import Path

import vizdoom as vd

_FOR_SEVERAL, _ALONE = ("cig", "multi", "multi_duel"), "-deathmatch"  # their maps have places for no other game
_FIRST_MAP, _MAP = "MAP01", re.compile(r"MAP\d\d|E\dM\d")  # where a game begins that is told nothing
_HEAD, _LUMP = struct.Struct("<4sii"), struct.Struct("<ii8s")
_MOST_LUMPS = 2**20


def scenario_names() -> list[str]:
    """The scenarios that come with ViZDoom, and the games that they need with them."""
    paths = Path(vd.scenarios_path).glob("*.cfg")
    return sorted(path.stem for path in paths if not (game := _told(path).get("doom_game_path")) or _game(game))


def find_scenario(name: str) -> Path:
    """The .cfg of a scenario. ValueError, naming near ones, where there is none."""
    if name.endswith(".cfg"):
        path = Path(name).expanduser().absolute()
        if not path.is_file():
            raise ValueError(f"doom:{name}: there is no such file")
        return path
    path = Path(vd.scenarios_path) / f"{name}.cfg"
    if name not in (each.stem for each in path.parent.glob("*.cfg")):
        near = difflib.get_close_matches(name, scenario_names(), n=3, cutoff=0.5)
        choices = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(scenario_names())}"
        raise ValueError(f"doom:{name} is not a scenario of ViZDoom; {choices}")
    return path


def load_scenario(name: str) -> vd.DoomGame:
    """A game set up by the scenario's .cfg; it begins in the first map of its game where the .cfg names none. One for
    several players is played alone."""
    path = find_scenario(name)
    told = _told(path)
    game = vd.DoomGame()
    try:
        game.load_config(str(path))
    except (vd.FileDoesNotExistException, vd.ViZDoomErrorException, RuntimeError) as error:
        raise ValueError(f"doom:{name}: {path} cannot be read ({error})") from error
    if name in _FOR_SEVERAL:
        game.add_game_args(_ALONE)
    for key, place in (
        ("doom_scenario_path", game.set_doom_scenario_path),
        ("doom_game_path", game.set_doom_game_path),
    ):
        if found := _game(told.get(key, ""), path.parent):
            place(str(found))
    wad = _game(told.get("doom_game_path", ""), path.parent)
    if wad and "doom_scenario_path" not in told and "doom_map" not in told:
        maps = _maps(wad)
        if maps and _FIRST_MAP not in maps:  # ViZDoom would wait for it for ever
            game.set_doom_map(maps[0].lower())
    return game


def _told(path: Path) -> dict[str, str]:
    """The plain settings of a .cfg."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.partition("#")[0].partition("=") for line in lines)
    return {key.strip().lower(): value.strip() for key, equals, value in pairs if equals and value.strip()}


def _game(name: str, beside: Path | None = None) -> Path | None:
    """The file of a game or its scenario, beside the .cfg or among those that come with ViZDoom."""
    places = [*([beside] if beside else []), Path(vd.__file__).parent, Path(vd.scenarios_path)]
    return next((place / name for place in places if name and (place / name).is_file()), None)


def _maps(wad: Path) -> list[str]:
    """The maps of a game's file (WAD), in its order."""
    with wad.open("rb") as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return []
        _, count, place = _HEAD.unpack(head)
        file.seek(max(0, place))
        lumps = file.read(_LUMP.size * min(max(0, count), _MOST_LUMPS))
    whole = len(lumps) - len(lumps) % _LUMP.size
    names = (name.split(b"\0")[0].decode("ascii", "replace") for _, _, name in _LUMP.iter_unpack(lumps[:whole]))
    return [name for name in names if _MAP.fullmatch(name)]
