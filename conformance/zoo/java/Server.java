import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** A one-member cluster; its ports and its folder stay the same over restarts. */
final class Server {
    final int port;
    private final String binary;
    private final Path folder;
    private Process process;

    Server(String binary, Path folder, int port) throws IOException {
        this.binary = binary;
        this.folder = folder;
        this.port = port;
        Files.createDirectories(folder);
    }

    void start() throws Exception {
        String client = "http://127.0.0.1:" + port;
        String peer = "http://127.0.0.1:" + (port + 1);
        List<String> command = new ArrayList<>(List.of(binary));
        Map.of(
                "name", "n1",
                "data-dir", folder.resolve("data").toString(),
                "listen-client-urls", client,
                "advertise-client-urls", client,
                "listen-peer-urls", peer,
                "initial-advertise-peer-urls", peer,
                "initial-cluster", "n1=" + peer,
                "grpc-keepalive-min-time", "500ms")
            .forEach((name, value) -> command.add("--" + name + "=" + value));
        File log = folder.resolve("server.log").toFile();
        process = new ProcessBuilder(command)
            .redirectInput(ProcessBuilder.Redirect.from(new File("/dev/null")))
            .redirectErrorStream(true)
            .redirectOutput(ProcessBuilder.Redirect.appendTo(log))
            .start();
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        while (System.nanoTime() < deadline) {
            if (!process.isAlive()) {
                throw new IllegalStateException("server ended with " + process.exitValue());
            }
            if (healthy(client)) {
                return;
            }
            Thread.sleep(10);
        }
        throw new IllegalStateException("server not healthy after 20 s");
    }

    void stop() throws InterruptedException {
        if (process == null || !process.isAlive()) {
            return;
        }
        process.destroy();
        if (!process.waitFor(15, TimeUnit.SECONDS)) {
            process.destroyForcibly().waitFor();
            throw new IllegalStateException("SIGTERM did not stop the server in 15 s");
        }
    }

    /** The end without warning. */
    void kill() throws InterruptedException {
        process.destroyForcibly().waitFor();
    }

    private static boolean healthy(String client) {
        try {
            HttpURLConnection http = (HttpURLConnection) URI.create(client + "/health").toURL().openConnection();
            http.setConnectTimeout(1000);
            http.setReadTimeout(1000);
            try (InputStream body = http.getInputStream()) {
                return new String(body.readAllBytes(), StandardCharsets.UTF_8).contains("\"true\"");
            }
        } catch (IOException error) {
            return false;
        }
    }

    /** Passes one connection on and counts the frames that keep-alive needs. */
    static final class PingProxy implements AutoCloseable {
        private static final int PREFACE = 24;
        private static final int PING = 6;
        private static final int GOAWAY = 7;
        private static final int ACK = 1;
        /** What is in the client's own pings that measure the connection. */
        private static final long MEASURING = 1234;
        final AtomicInteger pings = new AtomicInteger();
        final AtomicInteger answers = new AtomicInteger();
        final AtomicInteger goaways = new AtomicInteger();
        private final ServerSocket listener = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
        private final int port;

        PingProxy(int port) throws IOException {
            this.port = port;
            background(this::serve);
        }

        String address() {
            return "127.0.0.1:" + listener.getLocalPort();
        }

        private void serve() throws IOException {
            try (Socket client = listener.accept();
                    Socket server = new Socket(InetAddress.getLoopbackAddress(), port)) {
                background(() -> pass(server, client, 0, ACK));
                pass(client, server, PREFACE, 0);
            }
        }

        /** The server pings too, to measure the connection; only pings with the given ACK flag are counted. */
        private void pass(Socket source, Socket target, int preface, int ack) throws IOException {
            InputStream in = source.getInputStream();
            OutputStream out = target.getOutputStream();
            out.write(in.readNBytes(preface));
            while (true) {
                byte[] head = in.readNBytes(9);
                if (head.length < 9) {
                    target.close();
                    return;
                }
                int length = (head[0] & 0xff) << 16 | (head[1] & 0xff) << 8 | head[2] & 0xff;
                byte[] body = in.readNBytes(length);
                if (head[3] == PING && (head[4] & ACK) == ack && ByteBuffer.wrap(body).getLong() != MEASURING) {
                    (ack == 0 ? pings : answers).incrementAndGet();
                } else if (head[3] == GOAWAY && ack != 0) {
                    goaways.incrementAndGet();
                }
                out.write(head);
                out.write(body);
            }
        }

        @Override
        public void close() throws IOException {
            listener.close();
        }

        private interface Work {
            void run() throws IOException;
        }

        private static void background(Work work) {
            Thread thread = new Thread(() -> {
                try {
                    work.run();
                } catch (IOException closed) {
                    // The end of the connection, which the case itself notices where it matters.
                }
            });
            thread.setDaemon(true);
            thread.start();
        }
    }
}
