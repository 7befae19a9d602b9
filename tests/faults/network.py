"""A network that fails: an HTTP proxy on loopback between the PC and the server.

It takes a whole request, then does to it what a network may do. Every connection carries one request, so
nothing that is left of one reaches the next. The review channel is passed through, and cut like the rest.
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from random import Random

ANSWER_S = 20.0
HEAD_MAX = 1 << 16


class Fault(StrEnum):
    """What happens to a request."""

    REFUSED = "refused"  # nobody is there
    CUT = "cut"  # the connection breaks in the middle of it
    KILLED = "cut by a server that dies"  # as above
    HALF_OPEN = "half-open"  # it goes nowhere, and nobody says so
    SLOW = "slow"  # it comes in drops
    ANSWER_LOST = "answer lost"  # it is done, and nobody hears of it
    ANSWER_CUT = "answer cut"  # only half of the answer arrives
    TWICE = "twice"  # it arrives again, at the same time
    LATE = "late"  # the sender is cut off; later, after others, it arrives all the same


KINDS = tuple(Fault)


class Network:
    """Between `port` and the server at `target`. rate: the share of requests that something happens to.

    counts: what happened. on_cut: called in the middle of a request that the server is not to survive.
    """

    def __init__(self, target: int, chance: Random, rate: float = 0.0) -> None:
        self.rate = rate
        self.counts: Counter[str] = Counter()
        self.on_cut: Callable[[], object] = lambda: None
        self._target = ("127.0.0.1", target)
        self._chance = chance
        self._late: list[bytes] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        with socket.create_connection(("127.0.0.1", self.port)):
            self._listener.close()

    def calm(self) -> None:
        """From now on nothing happens any more; what is late arrives now."""
        self.rate = 0.0
        with self._lock:
            late, self._late = self._late, []
        for request in late:
            self._ask(request)

    def _accept(self) -> None:
        while not self._closed.is_set():
            client, _address = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            client.settimeout(ANSWER_S)
            try:
                self._carry(client)
            except OSError:
                return  # one of the two is gone, which is what this is about

    def _carry(self, client: socket.socket) -> None:
        head, body = _read_head(client)
        if not head:
            return
        if b"\r\nupgrade: websocket" in head.lower():
            self._pass(client, head + b"\r\n\r\n" + body)
            return
        if b"100-continue" in head.lower():
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = _alone(head) + _read_body(client, head, body)
        with self._lock:
            fault = self._chance.choice(KINDS) if self._chance.random() < self.rate else None
            share = self._chance.random()
        if fault is None:
            client.sendall(self._ask(request))
            self._deliver_late()
            return
        self.counts[fault] += 1
        self._disturb(fault, share, request, client)

    def _disturb(self, fault: Fault, share: float, request: bytes, client: socket.socket) -> None:
        match fault:
            case Fault.REFUSED:
                return
            case Fault.CUT | Fault.KILLED:
                with socket.create_connection(self._target, ANSWER_S) as server:
                    server.sendall(request[: round(len(request) * share)])
                    if fault is Fault.KILLED:
                        self.on_cut()
            case Fault.HALF_OPEN:
                client.recv(1)  # until it gives up
            case Fault.SLOW:
                client.sendall(self._ask(request, drops=8))
            case Fault.ANSWER_LOST:
                self._ask(request)
            case Fault.ANSWER_CUT:
                answer = self._ask(request)
                client.sendall(answer[: round(len(answer) * share)])
            case Fault.TWICE:
                other = threading.Thread(target=self._ask, args=(request,), daemon=True)
                other.start()
                answer = self._ask(request)
                other.join(ANSWER_S)
                client.sendall(answer)
            case Fault.LATE:
                with self._lock:
                    self._late.append(request)

    def _deliver_late(self) -> None:
        """What is late comes after what was sent later: the requests change places."""
        with self._lock:
            request = self._late.pop(0) if self._late else None
        if request is not None:
            self._ask(request)

    def _ask(self, request: bytes, drops: int = 1) -> bytes:
        """The server's whole answer; empty when it gives none."""
        answer = b""
        try:
            with socket.create_connection(self._target, ANSWER_S) as server:
                size = -(-len(request) // drops)
                for at in range(0, len(request), size):
                    server.sendall(request[at : at + size])
                    if drops > 1:
                        time.sleep(0.02)
                while block := server.recv(1 << 16):
                    answer += block
        except OSError:
            return answer
        return answer

    def _pass(self, client: socket.socket, begun: bytes) -> None:
        """Both ways, until one of them hangs up."""
        with socket.create_connection(self._target, ANSWER_S) as server:
            server.settimeout(None)
            client.settimeout(None)
            server.sendall(begun)
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join(1)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while block := source.recv(1 << 16):
            sink.sendall(block)
        sink.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    """A request's head without its blank line, and what came of its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        block = client.recv(1 << 16)
        if not block or len(data) > HEAD_MAX:
            return b"", b""
        data += block
    head, _blank, body = data.partition(b"\r\n\r\n")
    return head, body


def _read_body(client: socket.socket, head: bytes, body: bytes) -> bytes:
    """All of it, as it is on the wire."""
    headers = head.lower()
    if b"\r\ntransfer-encoding: chunked" in headers:
        while not body.endswith(b"0\r\n\r\n"):
            body += _some(client)
        return body
    length = int(headers.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or 0)
    while len(body) < length:
        body += _some(client)
    return body


def _some(client: socket.socket) -> bytes:
    block = client.recv(1 << 16)
    if not block:
        raise ConnectionResetError
    return block


def _alone(head: bytes) -> bytes:
    """The head of a request that is the only one on its connection."""
    lines = head.split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith((b"connection:", b"expect:"))]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])
