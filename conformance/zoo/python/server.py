"""A server process, and a proxy that counts what keep-alive needs: the HTTP/2 PING frames of both sides."""

import os
import socket
import subprocess
import threading
import time
import urllib.request


class Server:
    """A one-member cluster; its ports and its folder stay the same over restarts."""

    def __init__(self, binary, folder, port):
        self.binary, self.folder, self.port = binary, folder, port
        os.makedirs(folder, exist_ok=True)
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        client, peer = f"http://{self.address}", f"http://127.0.0.1:{self.port + 1}"
        flags = {
            "name": "n1",
            "data-dir": os.path.join(self.folder, "data"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"n1={peer}",
            "grpc-keepalive-min-time": "500ms",
        }
        with open(os.path.join(self.folder, "server.log"), "ab") as log:
            self.process = subprocess.Popen(
                [self.binary] + [f"--{name}={value}" for name, value in flags.items()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"server ended with {self.process.returncode}")
            try:
                with urllib.request.urlopen(f"{client}/health", timeout=1) as answer:
                    if b'"true"' in answer.read():
                        return
            except OSError:
                pass
            time.sleep(0.01)
        raise RuntimeError("server not healthy after 20 s")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise RuntimeError("SIGTERM did not stop the server in 15 s") from None

    def kill(self):
        """The end without warning."""
        self.process.kill()
        self.process.wait()


class PingProxy:
    """Passes one connection on and counts pings of the client, their answers, and GOAWAY frames of the server."""

    PREFACE = 24
    PING, GOAWAY, ACK = 6, 7, 1

    def __init__(self, port):
        self.pings = self.answers = self.goaways = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.port = port
        self.sockets = [self.listener]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        try:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.port))
        except OSError:
            return
        self.sockets += [client, server]
        threading.Thread(target=self._pass, args=(server, client, 0), daemon=True).start()
        self._pass(client, server, self.PREFACE)

    def _pass(self, source, target, skip):
        pending = b""
        of_client = skip > 0
        try:
            while data := source.recv(65536):
                target.sendall(data)
                pending += data
                if skip:
                    if len(pending) < skip:
                        continue
                    pending, skip = pending[skip:], 0
                while len(pending) >= 9 and len(pending) >= 9 + int.from_bytes(pending[:3], "big"):
                    self._frame(of_client, pending[3], pending[4])
                    pending = pending[9 + int.from_bytes(pending[:3], "big"):]
        except OSError:
            pass

    def _frame(self, of_client, kind, flags):
        """The server pings too, to measure the connection; those are not counted."""
        if kind == self.PING and of_client and not flags & self.ACK:
            self.pings += 1
        elif kind == self.PING and not of_client and flags & self.ACK:
            self.answers += 1
        elif kind == self.GOAWAY and not of_client:
            self.goaways += 1

    def close(self):
        for each in self.sockets:
            each.close()
