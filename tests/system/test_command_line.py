"""Commands that need no running microscope."""

import ast
import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path | None = None, **environment: str):
    return subprocess.run(
        [sys.executable, "-m", "bluesky_em", *arguments],
        capture_output=True, text=True, timeout=60, cwd=cwd, env={**os.environ, **environment},
    )  # fmt: skip


def test_version_is_that_of_the_package() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout == f"bluesky-em {version('bluesky-em')}\n"


def test_init_copies_the_lab_folders_and_never_overwrites(tmp_path: Path) -> None:
    assert run("init", str(tmp_path)).returncode == 0
    for name in (
        "devices/simulated.py",
        "devices/two_pc.py",
        "plans/line_scan.py",
        "queue_server/00_session.py",
    ):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text()
        ast.parse((tmp_path / name).read_text())
    again = run("init", str(tmp_path))
    assert again.returncode != 0
    assert "exists already and was not changed" in again.stderr


def test_a_server_without_the_vendors_module_says_what_to_do(tmp_path: Path) -> None:
    done = run("serve", "gatan", "--spool", str(tmp_path))
    assert done.returncode != 0
    assert "'DigitalMicrograph' cannot be imported here" in done.stderr
    assert "or add --simulate" in done.stderr


def test_a_server_refuses_the_network_without_a_token(tmp_path: Path) -> None:
    done = run(
        "serve", "autoscript", "--simulate", "--host", "0.0.0.0", "--port", "0",
        "--spool", str(tmp_path), BLUESKY_EM_TOKEN="",
    )  # fmt: skip
    assert done.returncode != 0
    assert "without a token: anyone on that network could move the instrument" in done.stderr


def test_a_malformed_beam_address_is_refused_with_an_example(tmp_path: Path) -> None:
    done = run("serve", "gatan", "--simulate", "--beam", "tem-pc", "--spool", str(tmp_path))
    assert done.returncode != 0
    assert (
        "'tem-pc' is not an address" in done.stderr and "PYRO:eels_server@gatan-pc" in done.stderr
    )


def test_a_port_out_of_range_is_refused(tmp_path: Path) -> None:
    done = run("serve", "gatan", "--simulate", "--port", "99999", "--spool", str(tmp_path))
    assert done.returncode != 0 and "less than or equal to 65535" in done.stderr


def test_a_terminated_server_parks_the_instrument_and_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        [
            sys.executable, "-m", "bluesky_em", "serve", "autoscript", "--simulate",
            "--port", "0", "--spool", str(tmp_path),
        ],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert "tem_server is ready: PYRO:tem_server@127.0.0.1:" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_status_of_a_folder_that_was_never_used_says_so(tmp_path: Path) -> None:
    done = run("status", "--storage", str(tmp_path))
    assert done.returncode != 0
    assert "is not a storage folder: nothing was ever stored there" in done.stderr
