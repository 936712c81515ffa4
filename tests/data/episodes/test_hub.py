"""Datasets by name, from a hub on this machine that answers the few questions which a download asks."""

import hashlib
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

from oneiros.cli import main
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.remote.hub import revision_of
from oneiros.data.episodes.source import origin_of

pytest.importorskip("huggingface_hub")

COMMIT = "1234567890abcdef1234567890abcdef12345678"
AWAY = "http://127.0.0.1:9"  # where nobody answers
COMMANDS = """
import sys
from oneiros.cli import main
for line in sys.argv[1:]:
    try:
        main(line.split())
        code = 0
    except SystemExit as ended:
        code = ended.code
    print("exit", code, file=sys.stderr)
"""


def hub(datasets: dict[str, dict[str, bytes]]) -> ThreadingHTTPServer:
    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            if parts[0] == "api":
                parts = parts[1:]
            name = "/".join(parts[1:3])
            if parts[0] != "datasets" or name not in datasets:
                self._answer(404, {"X-Error-Code": "RepoNotFound"}, b"{}")
            elif parts[3:] and parts[3] == "tree":
                listed = [
                    {"type": "file", "path": path, "size": len(content), "oid": digest(content)}
                    for path, content in datasets[name].items()
                ]
                self._answer(200, {"Content-Type": "application/json"}, json.dumps(listed).encode())
            elif parts[3:] and parts[3] == "resolve":
                content = datasets[name]["/".join(parts[5:])]
                self._answer(200, {"ETag": f'"{digest(content)}"', "X-Repo-Commit": COMMIT}, content)
            elif len(parts) == 3 or parts[4] in ("main", "v3.0"):
                told = {"id": name, "sha": COMMIT, "siblings": []}
                self._answer(200, {"Content-Type": "application/json"}, json.dumps(told).encode())
            else:
                self._answer(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")

        do_HEAD = do_GET

        def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def call(folder: Path, endpoint: str, *lines: str) -> tuple[list[int], str, str]:
    """Exit codes, stdout and stderr of commands, which a process of its own runs one after another in `folder`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *lines], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )
    kept = [line for line in done.stderr.splitlines() if not line.startswith("exit ")]
    codes = [int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("exit ")]
    return codes, done.stdout, "\n".join(kept)


def test_a_dataset_by_name(tmp_path, counting):
    counting.record(tmp_path / "made", [4, 5])
    files = {
        path.relative_to(tmp_path / "made").as_posix(): path.read_bytes()
        for path in (tmp_path / "made").rglob("*")
        if path.is_file()
    }
    server = hub({"lab/arm": {**files, "README.md": b"not needed"}, "lab/text": {"train.parquet": b"no robot"}})
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"

    look = "inspect lab/arm --json --fast"
    codes, out, err = call(tmp_path, endpoint, look, "import lab/arm@v3.0 --out mine")
    assert codes == [0, 0], err
    assert json.loads(out[: out.rindex("}") + 1])["episodes"] == 2
    assert counting.numbers(Dataset.open(tmp_path / "mine"), 1) == [4, 5, 6, 7, 8]
    snapshot = tmp_path / f"home/hub/datasets--lab--arm/snapshots/{COMMIT}"
    dataset = Dataset.open(snapshot, strict=True)
    assert counting.numbers(dataset, 1) == [4, 5, 6, 7, 8]
    assert not (snapshot / "README.md").exists()
    assert origin_of(dataset, dataset.camera(), None, (0,)).revision == f"lab/arm@{COMMIT}"
    assert dataset.fingerprint() == Dataset.open(tmp_path / "made").fingerprint()

    counting.record(tmp_path / "lab/here", [4, 5, 4])  # a folder of that name wins
    lines = (look, f"inspect lab/arm@{COMMIT} --fast", "inspect lab/other", "inspect lab/here --json --fast")
    codes, out, err = call(tmp_path, AWAY, *lines)
    assert codes == [0, 0, 2, 0]
    assert json.loads(out[out.rindex("\n{") :])["episodes"] == 3
    assert f"lab/arm@{COMMIT}" in out
    told = [line for line in err.splitlines() if line.startswith("oneiros: ")]
    assert told == [
        "oneiros: lab/other: there is no such folder, and the hub cannot be reached to look for it there (ConnectError)"
    ]
    assert (tmp_path / "arm@1234567890abcdef1234567890abcdef12345678-sheet.png").is_file()

    lines = ("inspect lab/none", "inspect lab/arm@v9", "inspect lab/text", "clouds lab/none --out run")
    codes, _, err = call(tmp_path, endpoint, *lines)
    assert codes == [2, 2, 2, 2]
    nowhere = "lab/none: there is no such folder, and no dataset on the hub (or a private one: `hf auth login`)"
    assert [line.removeprefix("oneiros: ") for line in err.splitlines() if line.startswith("oneiros: ")] == [
        nowhere,
        "lab/arm: has no revision v9 on the hub",
        "lab/text: is no LeRobot dataset; on the hub it has no meta/info.json",
        nowhere,
    ]
    server.shutdown()


def test_what_a_revision_is_read_from():
    assert revision_of(Path(f"/c/hub/datasets--lerobot--pusht/snapshots/{COMMIT}")) == f"lerobot/pusht@{COMMIT}"
    assert revision_of(Path("/c/datasets--lerobot--pusht/copies/1")) is None
    assert revision_of(Path("/c/models--lerobot--pusht/snapshots/1")) is None


@pytest.mark.parametrize("name", ["lab/arm", "lab/arm@v3.0"])
def test_without_the_package_one_line_says_what_to_install(name, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["inspect", name])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith(
        "oneiros: lab/arm: there is no such folder; datasets are downloaded by name with the package"
    )
