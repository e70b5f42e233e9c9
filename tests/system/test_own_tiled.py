"""A Tiled server of one's own, from the configuration and the code in the documentation."""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx
import pytest
import yaml
from event_model import compose_run

from bluesky_em import Data, Storage

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-your-own-tiled.md"
START_TIMEOUT = 180.0  # seconds, on a busy computer
PASSWORD = "secret"  # noqa: S105 (of this test's server)


def config_on_the_page(folder: Path) -> dict[str, Any]:
    """The configuration with this test's databases and log-in instead of a site's."""
    text = re.search(r"\n\n(    authentication:\n.*?)\n\n\S", PAGE.read_text("utf-8"), re.DOTALL)
    assert text is not None
    config = yaml.safe_load(dedent(text[1]))
    config["authentication"] |= {
        "providers": [
            {
                "provider": "house",
                "authenticator": "tiled.authenticators:DictionaryAuthenticator",
                "args": {"users_to_passwords": {"you": PASSWORD}},
            }
        ],
        "secret_keys": [secrets.token_hex(32)],
    }
    here = folder.as_posix()
    config["database"] = {"uri": f"sqlite:///{here}/auth.db", "init_if_not_exists": True}
    config["streaming_cache"] = {"uri": "memory"}
    config["trees"][0]["args"] |= {
        "uri": f"sqlite:///{here}/catalog.db",
        "init_if_not_exists": True,
        "readable_storage": [f"{here}/em/data"],
        "writable_storage": [f"{here}/arrays", f"duckdb:///{here}/tables.duckdb"],
    }
    return config


def wait_for(uri: str, server: subprocess.Popen[Any], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            httpx.get(f"{uri}/healthz", timeout=5.0).raise_for_status()
            return
        except httpx.HTTPError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own").resolve()
    (folder / "em" / "data").mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def uri(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config, log = folder / "config.yml", folder / "server.log"
    config.write_text(yaml.safe_dump(config_on_the_page(folder)))
    command = [sys.executable, "-m", "tiled", "serve", "config", str(config), "--port", str(port)]
    with (
        open(log, "w") as output,
        subprocess.Popen(command, stdout=output, stderr=output) as server,
    ):
        try:
            wait_for(f"http://127.0.0.1:{port}", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def keys(uri: str) -> dict[str, str]:
    """The keys that the page's code prints."""
    from tiled.client import context

    code = re.search(r"```python\n(from tiled.client.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert code is not None
    printed: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "username_input", lambda: "you")
        patch.setattr(context, "password_input", lambda: PASSWORD)
        names = {"print": lambda who, key: printed.update({who.rstrip(":"): key})}
        exec(code[1].replace("https://tiled-host", uri), names)
        names["tiled"].context.close()  # type: ignore[attr-defined]
    return printed


@pytest.fixture(scope="module")
def run(uri: str, keys: dict[str, str], folder: Path) -> str:
    """The uid of a raw run with one event."""
    bundle = compose_run()
    stream = bundle.compose_descriptor(
        name="primary", data_keys={"x": {"source": "", "dtype": "number", "shape": []}}
    )
    with Storage(folder / "em", tiled=uri, api_key=keys["writer"]) as storage:
        storage("start", bundle.start_doc)
        storage("descriptor", stream.descriptor_doc)
        storage("event", stream.compose_event(data={"x": 1.0}, timestamps={"x": 0.0}))
        storage("stop", bundle.compose_stop())
        storage.data.wait(bundle.start_doc["uid"], timeout=60)
    return bundle.start_doc["uid"]


def test_an_analyst_publishes_about_a_raw_run_and_cannot_change_it(
    uri: str, keys: dict[str, str], run: str
) -> None:
    with (
        closing(Data(uri, api_key=keys["analysts"])) as analyst,
        closing(Data(uri, api_key=keys["readers"])) as reader,
    ):
        results = reader.results(run)
        analyst.publish(run, "verdict", "good")
        assert results.wait(run, "verdict", timeout=20) and results.latest == {"verdict": "good"}
        raw = analyst.catalog[run]
        for change in (
            lambda: raw.update_metadata({"stop": {"reason": "forged"}}),
            lambda: raw.base.create_container("forged"),
            lambda: analyst.catalog.create_container("forged"),
            lambda: analyst.results_catalog.update_metadata({"start": {"uid": "results"}}),
            lambda: (
                raw["primary"]
                .base["internal"]
                .append_partition(0, raw["primary"].base["internal"].read())
            ),
        ):
            with pytest.raises(Exception, match="Not enough permissions"):
                change()
        assert list(raw["primary"].read()["x"].values) == [1.0] and "results" not in raw
        analyst.results_catalog.write_array([1.0, 2.0], key="mine")
        with pytest.raises(PermissionError, match="may only read"):
            reader.publish(run, "verdict", "bad")
