import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from paretrim.data.download import download, require_md5
from paretrim.errors import DataUnavailable

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
    """A file server on 127.0.0.1 that can drop the connection, refuse ranges, or return an error; it records the requests."""

    def __init__(self):
        self.content, self.ranges, self.status, self.cut_after, self.says_length = CONTENT, True, 0, [], True
        self.asked, self.halfway, self.go_on = [], threading.Event(), None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file.tar.gz"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def answer(self, request):
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        if self.status:
            request.send_error(self.status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(self.content):
            request.send_error(416)
            return
        body = self.content[start:]
        request.send_response(206 if wanted and self.ranges else 200)
        if self.says_length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.go_on is not None:
            request.wfile.write(body[: len(body) // 2])
            body = body[len(body) // 2 :]
            self.halfway.set()
            self.go_on.wait(60)
        request.wfile.write(body[: self.cut_after.pop(0)] if self.cut_after else body)

    def stop(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    running = Server()
    yield running
    running.stop()


def fetch(server, path, **settings):
    download(server.url, path, **({"md5": MD5, "pause_s": 0.0, "timeout_s": 60.0} | settings))


def test_file_arrives_with_progress(server, tmp_path):
    told = []
    fetch(server, tmp_path / "f", progress=lambda done, total: told.append((done, total)))
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_of_two_at_once_one_fetches_the_file_and_the_other_waits(server, tmp_path):
    server.go_on = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetch, server, tmp_path / "f")
        assert server.halfway.wait(60)
        second = pool.submit(fetch, server, tmp_path / "f")
        with pytest.raises(TimeoutError):
            second.result(0.3)
        server.go_on.set()
        first.result(60)
        second.result(60)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.asked == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataUnavailable, match=r"failed \(.*File exists.*nothing had arrived.*put the file at"):
        fetch(server, tmp_path / "file" / "f")


def test_server_that_does_not_say_the_length(server, tmp_path):
    server.says_length = False
    told = []
    fetch(server, tmp_path / "f", progress=lambda _, total: told.append(total))
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert set(told) == {0}


def test_lost_connections_are_continued_where_they_ended(server, tmp_path):
    server.cut_after = [1000, 500]
    fetch(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-", "bytes=1500-"]


def test_the_next_run_continues(server, tmp_path):
    server.cut_after = [7000, 0]
    with pytest.raises(
        DataUnavailable, match=r"ended after 7,000 of 1,024,000 bytes.*7,000 bytes are kept and the next run continues"
    ):
        fetch(server, tmp_path / "f", attempts=2)
    assert not (tmp_path / "f").exists()
    fetch(server, tmp_path / "f")
    assert server.asked[-1] == "bytes=7000-"
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_server_without_ranges_sends_everything_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "f.part").write_bytes(CONTENT[:300])
    fetch(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_part_that_is_already_whole_is_used(server, tmp_path):
    (tmp_path / "f.part").write_bytes(CONTENT)
    fetch(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_wrong_checksum_deletes_the_file(server, tmp_path):
    server.content = CONTENT[::-1]
    with pytest.raises(DataUnavailable, match=f"sent a file that is not the published one; it was deleted: .*expected {MD5}"):
        fetch(server, tmp_path / "f")
    assert [path.name for path in tmp_path.iterdir()] == [".f.lock"]


def test_damaged_part_is_found_and_the_next_run_begins_again(server, tmp_path):
    (tmp_path / "f.part").write_bytes(b"\0" * 500)
    with pytest.raises(DataUnavailable, match="not the published one"):
        fetch(server, tmp_path / "f")
    fetch(server, tmp_path / "f")
    assert server.asked[-1] is None


def test_refusal_is_not_tried_again(server, tmp_path):
    server.status = 404
    with pytest.raises(DataUnavailable, match=r"failed \(HTTP Error 404: Not Found\); nothing had arrived"):
        fetch(server, tmp_path / "f")
    assert len(server.asked) == 1


def test_server_fault_is_tried_again(server, tmp_path):
    server.status = 503
    with pytest.raises(DataUnavailable, match="HTTP Error 503"):
        fetch(server, tmp_path / "f", attempts=3)
    assert len(server.asked) == 3


def test_server_that_is_gone(server, tmp_path):
    server.stop()
    with pytest.raises(DataUnavailable, match=r"Connection refused.*put the file at '.*f' yourself"):
        fetch(server, tmp_path / "f", attempts=2)


def test_checksum_of_a_file_on_disk(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    require_md5(tmp_path / "f", hashlib.md5(b"abc").hexdigest())
    with pytest.raises(DataUnavailable, match=rf"f' has MD5 900150983cd24fb0d6963f7d28e17f72, expected {MD5}; delete it"):
        require_md5(tmp_path / "f", MD5)
