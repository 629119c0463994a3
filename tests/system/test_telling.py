"""Telling somebody outside, by real commands and a real server: whatever these do, it ends in time and in one line."""

import contextlib
import http.server
import json
import os
import socket
import sys
import threading

import psutil
import pytest
import waiting

from autoopt.system import telling

LONG_S = 400.0
"""Longer than anything here takes: what must not run into a limit has this."""
SHORT_S = 0.5


def command(folder, code, *, limit_s=LONG_S, text="{}", **variables):
    words = [sys.executable, "-c", code]
    return telling.start(words, text, telling.environment(variables), folder, limit_s)


def test_a_command_gets_the_text_and_works_in_its_folder(tmp_path):
    code = "import sys, os; open('got', 'w').write(sys.stdin.read() + os.environ['AUTOOPT_X'])"
    assert command(tmp_path, code, text="täglich", AUTOOPT_X="1") == ""
    assert (tmp_path / "got").read_text() == "täglich1"


def test_a_command_gets_no_more_of_the_environment_than_it_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LC_MESSAGES", "C")
    assert command(tmp_path, "import os, json; json.dump(dict(os.environ), open('got', 'w'))") == ""
    got = json.loads((tmp_path / "got").read_text())
    assert got["PATH"] == os.environ["PATH"]
    assert got["LC_MESSAGES"] == "C"
    assert "secret" not in got.values()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit(3)", "ended with exit code 3"),
        ("import sys; print('a\\nno such host\\n', file=sys.stderr); sys.exit(7)", "ended with exit code 7 (no such host)"),
        ("import sys; sys.stderr.write('x' * 100000); sys.exit(1)", f"ended with exit code 1 ({'x' * telling.LONGEST})"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "was ended by SIGTERM"),
        ("import os; os.close(0)", ""),
        ("import sys; print('y' * 10_000_000)", ""),
    ],
)  # fmt: skip
def test_what_went_wrong_is_told_in_one_line(tmp_path, code, said):
    assert command(tmp_path, code, text="z" * 1_000_000) == said


def test_a_command_that_can_not_be_started_is_told(tmp_path):
    (tmp_path / "script").write_text("no program")
    assert telling.start(["./script"], "", {}, tmp_path, LONG_S) == "can't be started (Permission denied)"
    (tmp_path / "script").chmod(0o755)
    assert telling.start(["./script"], "", {}, tmp_path, LONG_S) == "can't be started (Exec format error)"
    assert telling.start(["./none"], "", {}, tmp_path, LONG_S).startswith("can't be started (No such file")


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    words = ["sh", "-c", "sleep 1000 & echo $! > part; mv part child; wait"]
    said = telling.start(words, "", telling.environment({}), tmp_path, SHORT_S)
    assert said == "was not done after 0.5 s, and was ended"
    if (tmp_path / "child").exists():  # on a busy machine the time may be up before
        child = int((tmp_path / "child").read_text())
        waiting.until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_what_a_command_leaves_running_is_not_waited_for(tmp_path):
    words = ["sh", "-c", "sleep 1000 & echo $! > child"]
    assert telling.start(words, "", telling.environment({}), tmp_path, LONG_S) == ""
    child = int((tmp_path / "child").read_text())
    os.kill(child, 9)


class Server:
    """An HTTP server that answers as it is told, and keeps what it was sent."""

    def __init__(self, answer):
        self.got = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                outer.got.append((self.path, dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
                answer(self)

            def log_message(self, *of):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *of):
        self.server.shutdown()
        self.server.server_close()


def answering(code, **headers):
    def answer(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()

    return answer


def test_an_address_is_posted_to():
    with Server(answering(204)) as server:
        assert telling.post(f"{server.address}/secret?x=1", '{"a": "ü"}', LONG_S) == ""
    ((path, headers, content),) = server.got
    assert path == "/secret?x=1"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(content) == {"a": "ü"}


def test_an_answer_that_is_none_of_success_is_told_without_the_secret_part():
    with Server(answering(404)) as server:
        assert telling.post(f"{server.address}/secret", "{}", LONG_S) == "127.0.0.1: answered 404 Not Found"


def test_a_redirect_is_an_answer_and_not_followed():
    with Server(answering(204)) as other, Server(answering(302, Location=other.address)) as server:
        assert telling.post(f"{server.address}/secret", "{}", LONG_S) == "127.0.0.1: answered 302 Found"
        assert other.got == []


def test_who_does_not_answer_is_not_waited_for():
    ended = threading.Event()
    with Server(lambda handler: ended.wait(LONG_S)) as server:
        assert telling.post(server.address, "{}", SHORT_S) == f"127.0.0.1: no answer within {SHORT_S:g} s"
        ended.set()


def test_an_answer_that_comes_drop_by_drop_is_not_waited_for():
    stop = threading.Event()

    def drip(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not stop.wait(0.05):
            with contextlib.suppress(OSError):
                handler.wfile.write(b"X-More: 1\r\n")

    with Server(drip) as server:
        said = telling.post(server.address, "{}", SHORT_S)
        stop.set()
    assert said == "127.0.0.1: no answer within 0.5 s"


def test_who_is_not_there_or_speaks_something_else_is_told():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert telling.post(f"http://127.0.0.1:{port}/secret", "{}", LONG_S) == "127.0.0.1: Connection refused"
    with socket.socket() as odd:
        odd.bind(("127.0.0.1", 0))
        odd.listen()

        def speak():
            connection, _ = odd.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        threading.Thread(target=speak, daemon=True).start()
        said = telling.post(f"http://127.0.0.1:{odd.getsockname()[1]}/secret", "{}", LONG_S)
    assert said.startswith("127.0.0.1: ")
    assert "secret" not in said
    assert len(said.splitlines()) == 1
