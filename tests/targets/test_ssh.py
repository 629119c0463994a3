"""A board over ssh: a real sshd on this machine, with keys, port and home of its own."""

import contextlib
import getpass
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest
import tenacity
import tiny
import waiting

from autoopt import targets
from autoopt.errors import CandidateFailed, ConfigError, TargetLost
from autoopt.targets.ssh import Ssh

SSHD = shutil.which("sshd", path=os.defpath + ":/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None,
    reason="needs an ssh server and client (Debian: apt install openssh-server openssh-client)",
)


def port_for_good():
    """A free port that the system gives to nobody who asks for any, so that it is still free when the board comes back."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


class Board:
    """A home, keys and an sshd that can be killed and started again on its port."""

    def __init__(self, folder):
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir()
        for name in ("host", "user", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
        self.port = port_for_good()
        server = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": folder / "host",
            "AuthorizedKeysFile": folder / "authorized_keys",
            "PidFile": "none",
            "StrictModes": "no",  # the folder is a temporary one
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "SetEnv": f"HOME={self.home}",
            "ForceCommand": f'cd {self.home} && exec sh -c "$SSH_ORIGINAL_COMMAND"',
        }
        (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in server.items()))
        self.config = self.client("user")
        self.process = None
        self.start()

    def client(self, key, port=None):
        """An ssh_config file that shows this key."""
        settings = {
            "HostName": "127.0.0.1",
            "Port": port or self.port,
            "User": getpass.getuser(),
            "IdentityFile": self.folder / key,
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": self.folder / "known_hosts",
            "StrictHostKeyChecking": "accept-new",
        }
        path = self.folder / f"{key}-{settings['Port']}.config"
        path.write_text("Host board\n" + "".join(f"  {name} {value}\n" for name, value in settings.items()))
        return path

    def start(self):
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", self.folder / "sshd_config"], stderr=log)
        waiting.until(lambda: self.listens() or self.process.poll() is not None)
        assert self.process.poll() is None, (self.folder / "log").read_text()

    def listens(self):
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        """As when its plug is pulled: the server, its connections, and what they run."""
        everything = [*psutil.Process(self.process.pid).children(recursive=True), self.process]
        for one in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait()

    def hang_up(self):
        """End the connection that autoopt's commands share."""
        path = f"ControlPath={tempfile.gettempdir()}/autoopt-ssh-{os.getuid()}/%C"
        line = ["ssh", "-F", self.config, "-o", path, "-O", "exit", "board"]
        subprocess.run(line, capture_output=True, check=False)

    def address(self, python=sys.executable, config=None):
        return f"ssh://board?config={config or self.config}&python={python}"

    def script(self, name, text):
        """A program on the board."""
        path = self.home / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    board = Board(tmp_path_factory.mktemp("board"))
    yield board
    board.hang_up()
    board.kill()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(Ssh._ssh.retry, "wait", tenacity.wait_fixed(0.2))


@pytest.fixture(scope="module")
def target(board):
    return targets.find(board.address())


@pytest.fixture(scope="module")
def file():
    return tiny.file(tiny.recipe("int8_io"))


def test_a_board_describes_itself(target):
    told = target.describe()
    assert told == {**targets.find("host").describe(), "target": target.name} | {
        name: told[name] for name in ("temperature_c",) if name in told
    }


def test_a_file_is_timed_against_its_reference(target, file):
    rounds = target.latency(file, tiny.file(tiny.recipe())).rounds
    assert len(rounds) >= 4
    assert min(min(pair) for one in rounds for pair in one) > 0


def test_memory_is_positive(target, file):
    assert 0 < target.memory(file)["memory_bytes"] < 4_000_000


def test_files_are_copied_once_and_stay(target, board, file):
    target.memory(file)
    there = board.home / ".cache/autoopt"
    before = {path.name: path.stat().st_mtime_ns for path in there.glob("*.tflite") if path.name != "warmup.tflite"}
    targets.find(board.address()).memory(file)
    assert before == {name: (there / name).stat().st_mtime_ns for name in before}
    assert file in [(there / name).read_bytes() for name in before]
    assert list(there.glob("*.part")) == []


@pytest.mark.parametrize("what", ["latency", "memory"])
def test_a_file_cut_short_fails_its_candidate(what, target, file):
    short = file[: len(file) // 2]
    with pytest.raises(CandidateFailed) as caught:
        target.latency(short, file) if what == "latency" else target.memory(short)
    assert caught.value.stage == what
    assert caught.value.reason.startswith("LiteRT on board can't run the file: ValueError: ")


def test_a_runtime_that_crashes_fails_the_candidate_at_once(board, file):
    """Not the connection is lost, and trying again would not help."""
    script = board.script("crashes", f"echo again >> {board.home}/tries\nkill -SEGV $$")
    with pytest.raises(CandidateFailed, match="LiteRT on board can't run the file: killed by signal 11"):
        targets.find(board.address(script)).memory(file)
    assert (board.home / "tries").read_text() == "again\n"


def test_a_python_in_the_home_can_be_named_by_a_tilde(board, file):
    board.script("my python", f'exec {sys.executable} "$@"')
    assert targets.find(board.address("~/my python")).memory(file)


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("/nowhere/python", r"no /nowhere/python there \(.*\); name one by \?python=PATH"),
        ("bare", "has no ai-edge-litert .*No module named 'ai_edge_litert'.*pip install ai-edge-litert"),
        ("false", "false there can't run autoopt's runner: no message"),
    ],
)
def test_a_python_that_does_not_serve_is_named(python, message, board):
    if python == "bare":
        python = board.script("bare", f'exec {os.path.realpath(sys.executable)} -I "$@"')
    with pytest.raises(ConfigError, match=message):
        targets.find(board.address(python)).describe()


def test_a_stranger_is_not_let_in(board):
    board.hang_up()
    with pytest.raises(ConfigError, match=r"target ssh://board.*Permission denied"):
        targets.find(board.address(config=board.client("stranger"))).describe()


def test_a_board_with_another_host_key_is_not_trusted(board):
    board.hang_up()
    key = (board.folder / "stranger.pub").read_text()
    (board.folder / "other_hosts").write_text(f"[127.0.0.1]:{board.port} {key}")
    config = board.folder / "other.config"
    config.write_text(board.config.read_text().replace("known_hosts", "other_hosts"))
    with pytest.raises(ConfigError, match=r"target ssh://board.*Host key verification failed"):
        targets.find(board.address(config=config)).describe()


def test_a_configuration_that_is_not_there_is_named(board):
    with pytest.raises(ConfigError, match="Can't open user config file /nowhere/config"):
        targets.find(board.address(config="/nowhere/config")).describe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ssh", "expected ssh://USER@HOST"),
        ("ssh://-oProxyCommand=evil", "expected ssh://USER@HOST"),
        ("ssh://board:door", "expected a port number, got 'door'"),
        ("ssh://board?pyton=python3", "unknown option 'pyton'; did you mean 'python'"),
        ("ssh://board?xnnpack=maybe", "xnnpack: expected one of on, off, got 'maybe'"),
    ],
)
def test_an_address_that_is_none_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        targets.find(text)


def test_where_nothing_listens_the_board_is_lost_after_some_tries(board):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        config = board.client("user", taken.getsockname()[1])
        with pytest.raises(TargetLost, match=r"target ssh://board.* does not answer: .*Connection refused"):
            targets.find(board.address(config=config)).describe()


@pytest.mark.parametrize("back", [True, False], ids=["comes back", "stays away"])
def test_a_board_that_goes_down_while_it_measures(back, board, file, monkeypatch):
    measuring = board.home / f"measuring, {back}"
    once = f'[ -e "{measuring}" ] || {{ touch "{measuring}"; exec sleep 600; }}'
    slow = board.script("slow", f'{once}; exec {sys.executable} "$@"')

    def pull_the_plug():
        waiting.until(measuring.exists)
        board.kill()
        if back:
            board.start()

    target = targets.find(board.address(slow))
    plug = threading.Thread(target=pull_the_plug)
    if back:  # autoopt waits for seconds, in which a busy machine may not have it up again
        monkeypatch.setattr(Ssh._ssh.retry, "wait", lambda _: plug.join() or 0)
    plug.start()
    try:
        if back:
            assert target.latency(file, file).rounds
        else:
            with pytest.raises(TargetLost, match=r"target ssh://board.* does not answer"):
                target.latency(file, file)
    finally:
        plug.join()
        if not back:
            board.start()
    assert measuring.exists()
