"""Answers requests that the interpreter has to work for: one thread, many connections, a line each way.

A request is a number; the answer is the SHA-256 of a JSON document built, changed, sorted and written for it.
"""
import hashlib
import json
import selectors
import socket

ITEMS = 60


def answer(number):
    items = [
        {"id": (number * 7919 + index * 104729) % 99991, "name": f"item-{index:04}", "tags": [index % 7, number % 11]}
        for index in range(ITEMS)
    ]
    document = json.loads(json.dumps({"number": number, "items": items}))
    totals = {}
    for item in document["items"]:
        key = "-".join(str(tag) for tag in item["tags"])
        totals[key] = totals.get(key, 0) + item["id"]
    document["items"].sort(key=lambda item: (item["id"], item["name"]))
    document["totals"] = dict(sorted(totals.items()))
    return hashlib.sha256(json.dumps(document, separators=(",", ":")).encode()).hexdigest()


def serve():
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("", 80), backlog=64)
    selector.register(listener, selectors.EVENT_READ, None)
    while True:
        for key, _ in selector.select():
            if key.data is None:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ, bytearray())
                continue
            try:
                received = key.fileobj.recv(4096)
            except OSError:
                received = b""
            if not received:
                selector.unregister(key.fileobj)
                key.fileobj.close()
                continue
            key.data.extend(received)
            while (end := key.data.find(b"\n")) >= 0:
                line = bytes(key.data[:end])
                del key.data[: end + 1]
                key.fileobj.sendall(f"{answer(int(line))}\n".encode())


serve()
