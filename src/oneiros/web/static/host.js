// Where the page's dreams come from: here, the player's server. What `oneiros export --web` writes has another file in
// this one's place, with the same names, whose dreams the page makes itself.

export { Channel } from "./protocol.js";

/** What is played, as ../game.py describes it. query: of the page's address, which names one of several worlds. */
export async function describe(query) {
  const answer = await fetch(`/api/info${query}`, { cache: "no-store" });
  if (answer.status === 403) throw Object.assign(new Error(`${await answer.text()}.`), { final: true });
  return answer.json();
}

/** The address of a start's picture. */
export const pictureOfStart = (index, query) => `/api/starts/${index}.png${query}`;
