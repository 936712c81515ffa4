// A page opened as a file may not load its own modules: say so, for nothing else can.
if (location.protocol === "file:") {
  document.getElementById("say").textContent =
    "A page like this must be served: in its folder, run python3 -m http.server and open the address that it prints";
}
