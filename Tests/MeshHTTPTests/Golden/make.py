"""Makes hpack-python.txt and conversations.txt, once, with other people's HTTP/2 code.

    pip install hpack==4.2.0 h2==4.4.1; nghttp from Debian's nghttp2-client; then: python3 make.py

hpack-python.txt: blocks in order, one connection for each "connection" line. A block is "block HEX", then one
line "NAME<tab>VALUE" for each field. conversations.txt: "ROLE-OF-READER MAKER HEX".
The line of maker "martlet" is ours: HTTP2FrameWriterTests makes it anew and compares, and the line "nghttpd" is what
nghttpd answered to it, the proof that it understood.
"""
import os, random, socket, subprocess, tempfile, threading, time
import h2.config, h2.connection, h2.settings, hpack

random.seed(7541)
words = ["default", "client", "server", "cluster.local", "10.42.3.17:8080", "v1", "a" * 300, "", "=,;/", "Grüße"]

def header_list(n):
    fields = [(":method", "CONNECT"), (":authority", random.choice(["10.42.1.2:80", "[fd00::1]:443", "a.b:9"]))]
    for _ in range(n):
        name = random.choice(["baggage", "forwarded", "traceparent", "cookie", "x-b%d" % random.randrange(40)])
        fields.append((name, ",".join(random.choice(words) for _ in range(random.randrange(4)))))
    return fields

with open("hpack-python.txt", "w") as out:
    for connection in range(4):
        print("connection", file=out)
        encoder = hpack.Encoder()
        for block in range(25):
            if connection == 3 and block % 8 == 4:
                encoder.header_table_size = random.choice([0, 100, 1000, 4096])
            fields = header_list(random.randrange(6))
            print("block", encoder.encode(fields, huffman=connection != 2).hex(), file=out)
            for name, value in fields:
                print(name + "\t" + value, file=out)

def h2_pair():
    """A whole tunnel between two h2 endpoints; yields what each side sent."""
    config = lambda client: h2.config.H2Configuration(client_side=client, header_encoding="utf-8")
    client, server = h2.connection.H2Connection(config(True)), h2.connection.H2Connection(config(False))
    sent = [bytearray(), bytearray()]
    def pump():
        for sender, receiver, log in ((client, server, sent[0]), (server, client, sent[1])) * 2:
            data = sender.data_to_send()
            log += data
            receiver.receive_data(data)
    client.initiate_connection(); server.initiate_connection(); pump()
    connect = [(":method", "CONNECT"), (":authority", "10.42.1.2:80"), ("baggage", "k8s.cluster.name=c")]
    client.send_headers(1, connect); pump()
    server.send_headers(1, [(":status", "200")]); pump()
    client.send_data(1, b"hello" * 100, pad_length=17)
    client.send_data(1, b"", pad_length=0)
    client.send_data(1, b"x"); pump()
    server.send_data(1, bytes(range(256)) * 20, end_stream=True)
    server.increment_flow_control_window(500); server.increment_flow_control_window(500, 1)
    server.ping(b"12345678"); pump()
    client.send_headers(3, connect + [("x-long", "".join(chr(33 + i * 7 % 90) for i in range(20000)))]); pump()
    client.reset_stream(3, 8); client.end_stream(1)
    client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20}); pump()
    server.close_connection(0, b"bye"); pump()
    return sent

def nghttp():
    """The first octets of Debian's nghttp, recorded by a server that only says SETTINGS."""
    listener = socket.create_server(("127.0.0.1", 0))
    got = bytearray()
    def serve():
        peer, _ = listener.accept()
        peer.sendall(bytes.fromhex("000000040000000000"))
        peer.settimeout(1)
        try:
            while data := peer.recv(65536):
                got.extend(data)
        except TimeoutError:
            pass
        peer.close()
    thread = threading.Thread(target=serve); thread.start()
    port = listener.getsockname()[1]
    subprocess.run(["nghttp", "-p", "5", "-H", "x-test: martlet", f"http://127.0.0.1:{port}/path"], timeout=10,
                   capture_output=True)
    thread.join()
    return got

def nghttpd(request):
    """What Debian's nghttpd answers to our octets."""
    with tempfile.TemporaryDirectory() as root:
        with open(os.path.join(root, "hello.txt"), "w") as file:
            file.write("hello\n")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = subprocess.Popen(["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", root, str(port)])
        try:
            time.sleep(1)
            peer = socket.create_connection(("127.0.0.1", port))
            peer.sendall(request)
            peer.settimeout(1)
            got = bytearray()
            try:
                while data := peer.recv(65536):
                    got.extend(data)
            except TimeoutError:
                pass
            return got
        finally:
            server.terminate()
            server.wait()

with open("conversations.txt") as old:
    martlet = next(bytes.fromhex(line.split()[2]) for line in old if " martlet " in line)

with open("conversations.txt", "w") as out:
    client, server = h2_pair()
    print("server", "h2-client", client.hex(), file=out)
    print("client", "h2-server", server.hex(), file=out)
    print("server", "nghttp", nghttp().hex(), file=out)
    print("server", "martlet", martlet.hex(), file=out)
    print("client", "nghttpd", nghttpd(martlet).hex(), file=out)
