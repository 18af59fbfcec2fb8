"""Python's standard library in the guest: what a prover's script would use."""

import concurrent.futures
import decimal
import hashlib
import json
import pathlib
import queue
import random
import socket
import struct
import tempfile
import threading
import time
import zlib

WORKSPACE = pathlib.Path("/workspace")


def pool() -> int:
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        return sum(executor.map(lambda n: n * n, range(1000)))


def files() -> str:
    path = WORKSPACE / "data.json"
    path.write_text(json.dumps({"numbers": list(range(100))}))
    (WORKSPACE / "folder").mkdir(exist_ok=True)
    path.rename(WORKSPACE / "folder" / "moved.json")
    names = sorted(path.name for path in (WORKSPACE / "folder").iterdir())
    return f"{names} {len(json.loads((WORKSPACE / 'folder' / 'moved.json').read_text())['numbers'])}"


def threads() -> int:
    done: queue.Queue[int] = queue.Queue()
    workers = [threading.Thread(target=lambda n=n: done.put(n)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done.get() for _ in workers)


def loopback() -> bytes:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"hello"), daemon=True).start()
        with socket.create_connection(server.getsockname(), timeout=20) as client:
            return client.recv(5)


def named_temporary() -> int:
    with tempfile.NamedTemporaryFile(dir=WORKSPACE, delete=False) as stream:
        stream.write(b"x" * 1000)
    return pathlib.Path(stream.name).stat().st_size


def main() -> None:
    print("pool", pool())
    print("threads", threads())
    print("files", files())
    print("named", named_temporary())
    print("loopback", loopback())
    print("sha256", hashlib.sha256(b"guest").hexdigest()[:16])
    print("zlib", len(zlib.compress(b"x" * 100000)))
    print("struct", struct.pack("<Id", 7, 1.5).hex())
    print("random", random.Random(5).randrange(1000))
    print("decimal", decimal.Decimal(2).sqrt())
    print("big", pow(3, 100000, 1000003))
    before = time.monotonic()
    time.sleep(0.05)
    print("slept", time.monotonic() - before >= 0.05)


main()
