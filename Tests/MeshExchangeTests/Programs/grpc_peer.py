"""A server and a client of gRPC for the tests of the waypoint: all four kinds of call, without generated code.

    grpc_peer.py server PORT-FILE      serves until it is killed; the file appears when it does
    grpc_peer.py client PORT           makes every call and prints OK, or says what was wrong
"""
import os
import sys
import threading
from concurrent import futures

import grpc

cancelled = threading.Semaphore(0)


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", "1"),))
    context.set_trailing_metadata((("x-trailing", metadata.get("x-sent", "-")), ("x-bin-bin", b"\x00\xff")))
    return b"re:" + request


def client_stream(requests, context):
    return b",".join(requests)


def server_stream(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def bidi(requests, context):
    for request in requests:
        yield b"re:" + request


def large(request, context):
    return request * 2


def fail(request, context):
    context.abort(grpc.StatusCode(tuple(next(c.value for c in grpc.StatusCode if c.name == request.decode()))),
                  "said 100% so")


def deadline(request, context):
    left = context.time_remaining()
    return b"none" if left is None or left > 10_000_000 else b"%d" % int(left)


def hang(request, context):
    ended = threading.Event()
    context.add_callback(ended.set)
    ended.wait(120)
    cancelled.release()
    yield b"never"


def was_cancelled(request, context):
    return b"yes" if cancelled.acquire(timeout=60) else b"no"


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Client": grpc.stream_unary_rpc_method_handler(client_stream),
    "Server": grpc.unary_stream_rpc_method_handler(server_stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "Large": grpc.unary_unary_rpc_method_handler(large),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Deadline": grpc.unary_unary_rpc_method_handler(deadline),
    "Hang": grpc.unary_stream_rpc_method_handler(hang),
    "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
}


def serve(port_file):
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", METHODS),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with open(port_file + ".new", "w") as file:
        file.write(str(port))
    os.rename(port_file + ".new", port_file)
    server.wait_for_termination()


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got!r} instead of {wanted!r}")


def failure(call):
    try:
        return call()
    except grpc.RpcError as error:
        return error


def ask(port):
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        limit = 120
        one = channel.unary_unary("/test.Echo/Unary")
        response, call = one.with_call(b"hello", timeout=limit, metadata=(("x-sent", "yes"),))
        expect("unary", response, b"re:hello")
        expect("initial metadata", dict(call.initial_metadata()).get("x-initial"), "1")
        trailing = dict(call.trailing_metadata())
        expect("trailing metadata", trailing.get("x-trailing"), "yes")
        expect("binary metadata", trailing.get("x-bin-bin"), b"\x00\xff")
        expect("code", call.code(), grpc.StatusCode.OK)

        many = channel.stream_unary("/test.Echo/Client")
        expect("client streaming", many(iter([b"a", b"b", b"c"]), timeout=limit), b"a,b,c")
        expect("an empty stream", many(iter([]), timeout=limit), b"")
        few = channel.unary_stream("/test.Echo/Server")
        expect("server streaming", list(few(b"1000", timeout=limit)), [b"%d" % n for n in range(1000)])
        expect("no message", list(few(b"0", timeout=limit)), [])

        # Each message is answered before the next is sent: nothing may be held back.
        asked = []
        next_one = threading.Semaphore(1)

        def requests():
            for number in range(20):
                next_one.acquire()
                asked.append(number)
                yield b"%d" % number

        both = channel.stream_stream("/test.Echo/Bidi")
        for number, response in enumerate(both(requests(), timeout=limit)):
            expect("bidirectional streaming", response, b"re:%d" % number)
            expect("one at a time", len(asked), number + 1)
            next_one.release()

        body = os.urandom(3 << 20)
        expect("3 MiB", channel.unary_unary("/test.Echo/Large")(body, timeout=limit) == body * 2, True)

        for name in ("NOT_FOUND", "INVALID_ARGUMENT", "UNAVAILABLE", "UNKNOWN"):
            error = failure(lambda: channel.unary_unary("/test.Echo/Fail")(name.encode(), timeout=limit))
            expect("a status", (error.code().name, error.details()), (name, "said 100% so"))
        error = failure(lambda: channel.unary_unary("/test.Echo/Nothing")(b"", timeout=limit))
        expect("no such method", error.code(), grpc.StatusCode.UNIMPLEMENTED)

        left = int(channel.unary_unary("/test.Echo/Deadline")(b"", timeout=1000))
        expect("a deadline goes through", 800 < left < 1100, True)
        expect("none does too", channel.unary_unary("/test.Echo/Deadline")(b""), b"none")

        error = failure(lambda: list(channel.unary_stream("/test.Echo/Hang")(b"", timeout=1)))
        expect("a deadline that passes", error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        cancelled = channel.unary_unary("/test.Echo/WasCancelled")
        expect("and is known to the server", cancelled(b"", timeout=limit), b"yes")
        hanging = channel.unary_stream("/test.Echo/Hang")(b"", timeout=limit)
        hanging.cancel()
        error = failure(lambda: list(hanging))
        expect("cancelled", error.code(), grpc.StatusCode.CANCELLED)

        # Answers of the waypoint itself.
        for path, code in (
            ("Status403", grpc.StatusCode.PERMISSION_DENIED), ("Status401", grpc.StatusCode.UNAUTHENTICATED),
            ("Status404", grpc.StatusCode.UNIMPLEMENTED), ("Status429", grpc.StatusCode.UNAVAILABLE),
            ("Status503", grpc.StatusCode.UNAVAILABLE), ("Status500", grpc.StatusCode.UNKNOWN),
        ):
            error = failure(lambda: channel.unary_unary(f"/test.Echo/{path}")(b"", timeout=limit))
            expect(path, (error.code(), error.details()), (code, "said: 50% ü"))
            error = failure(lambda: list(channel.stream_stream(f"/test.Echo/{path}")(iter([b"x"] * 10), timeout=limit)))
            expect(path, error.code(), code)

        results = [one.future(b"%d" % number, timeout=limit) for number in range(500)]
        expect("500 at once", [r.result() for r in results], [b"re:%d" % number for number in range(500)])
    print("OK")


if sys.argv[1] == "server":
    serve(sys.argv[2])
else:
    ask(sys.argv[2])
