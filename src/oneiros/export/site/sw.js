// Keeps the page and the world on this device, so that they open without a network, and lets the page use threads.

const [VERSION, FILES] = ["", []]; // filled in by `oneiros export`
const MINE = `oneiros ${self.registration.scope} `; // others may lie on the same host
const CACHE = MINE + VERSION;

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const outdated = (name) => name.startsWith(MINE) && name !== CACHE;
  const cleared = caches.keys().then((names) => Promise.all(names.filter(outdated).map((name) => caches.delete(name))));
  event.waitUntil(cleared.then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== location.origin) return;
  event.respondWith(answer(request));
});

/** From the network; the runtime of WebGPU, which not every device needs, is kept once it was. */
async function fetched(request, cache) {
  const found = await fetch(request);
  if (found.ok && new URL(request.url).pathname.includes("/ort/")) await cache.put(request, found.clone());
  return found;
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const found = (await cache.match(request, { ignoreSearch: true })) ?? (await fetched(request, cache));
  if (found.type === "opaque" || found.status === 0) return found;
  const headers = new Headers(found.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin"); // these two isolate the page, which threads need
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}
