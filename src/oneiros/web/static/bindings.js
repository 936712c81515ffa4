// Which keys do what: names of actions, as environments give them, onto a keyboard.

const UP = ["ArrowUp", "KeyW"];
const DOWN = ["ArrowDown", "KeyS"];
const LEFT = ["ArrowLeft", "KeyA"];
const RIGHT = ["ArrowRight", "KeyD"];

// The first pattern that a name meets says which keys it would like, the best first.
const WISHES = [
  [/^(noop|no_?op|none|stay|wait|nothing|idle)$/, []],
  [/look_?up/, ["KeyI"]],
  [/look_?down/, ["KeyK"]],
  [/(strafe|move|step)_?left/, ["KeyA", "ArrowLeft"]],
  [/(strafe|move|step)_?right/, ["KeyD", "ArrowRight"]],
  [/left|west/, LEFT],
  [/right|east/, RIGHT],
  [/forward|up|north|accelerate|gas/, UP],
  [/back|down|south|brake/, DOWN],
  [/attack|fire|shoot/, ["Space", "KeyF"]],
  [/jump/, ["Space", "KeyJ"]],
  [/use|open|toggle|pick/, ["KeyE"]],
  [/speed|run|sprint/, ["ShiftLeft"]],
  [/drop/, ["KeyG"]],
  [/crouch/, ["KeyC"]],
];
const SPARE = [..."123456789"].map((digit) => `Digit${digit}`).concat([..."FGHJKLVBXZTYU"].map((key) => `Key${key}`));
const DIRECTION = /up|down|left|right|forward|back|fire|jump/g;

const CAPS = {
  ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Space: "space", ShiftLeft: "shift",
};
const PLACES = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right" };

/** The written form of an action's name. */
export const label = (name) => name.toLowerCase().replaceAll(/[_\s]+/g, " ").trim();

/** Names of actions -> for each {name, codes, cap, place, parts}: keyboard codes that mean it, the text of its key,
 *  its place in the cross of arrows or null, and what it is made of ("up_left" is held as up and left). */
export function bind(names) {
  const taken = new Set();
  const wishes = names.map((name) => {
    const simple = name.toLowerCase();
    const parts = simple.match(DIRECTION) ?? [simple];
    const codes = parts.length > 1 ? [] : (WISHES.find(([pattern]) => pattern.test(simple))?.[1] ?? null);
    return { name, parts, wanted: codes ?? [], rests: codes !== null && codes.length === 0 };
  });
  const claim = (codes) => {
    const code = codes.find((wanted) => !taken.has(wanted));
    if (code) taken.add(code);
    return code ? [code] : [];
  };
  const bound = wishes.map((wish) => ({ ...wish, codes: claim(wish.wanted) }));
  for (const action of bound) if (!action.codes.length && !action.rests) action.codes = claim(SPARE);
  for (const action of bound) for (const code of action.wanted) if (!taken.has(code)) action.codes.push(...claim([code]));
  return bound.map(({ name, parts, codes }) => {
    const shown = codes.find((code) => code in PLACES) ?? codes[0];
    return { name, parts, codes, cap: caption(shown), place: PLACES[shown] ?? null };
  });
}

function caption(code) {
  if (!code) return "";
  return CAPS[code] ?? code.replace(/^(Key|Digit)/, "");
}
