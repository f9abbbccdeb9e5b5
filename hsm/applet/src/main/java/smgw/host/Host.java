package smgw.host;

import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.CodeSource;
import java.security.SecureRandom;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import javacard.framework.ISOException;
import smgw.applet.Memory;

/**
 * Runs one card until its standard input ends, so that it never outlives who started it.
 *
 * <p>{@code --state FILE} where the card lives; {@code --pin-file FILE} makes it first, if there is none; then {@code --listen PORT} (0: any)
 * on loopback, for a reader that connects to the card, or {@code --connect PORT} on loopback, for a reader that waits for cards. One
 * line on standard output says which: {@code listening PORT} or {@code connected PORT}.
 */
public final class Host {
    private static final Set<String> OPTIONS = Set.of("--state", "--pin-file", "--listen", "--connect");
    private static final int CONNECT_PAUSE_MS = 100;

    private Host() {}

    /** Exit codes: 0 input ended, 1 the card cannot be used, 2 wrong call. */
    public static void main(String[] arguments) throws IOException {
        PrintStream report = System.out;
        // jCardSim prints on standard output when it makes a signature object.
        System.setOut(new PrintStream(OutputStream.nullOutputStream()));
        Map<String, String> options = parse(arguments);
        if (options == null || !options.containsKey("--state") || options.containsKey("--listen") == options.containsKey("--connect")) {
            System.err.println("usage: --state FILE [--pin-file FILE] (--listen PORT | --connect PORT)");
            System.exit(2);
            return;
        }
        SimulatedCard card;
        try {
            requireGoodRandomness();
            card = open(Path.of(options.get("--state")), options.get("--pin-file"));
        } catch (IOException | IllegalStateException error) {
            System.err.println("applet host: " + error.getMessage());
            System.exit(1);
            return;
        }
        Thread guard = new Thread(Host::untilInputEnds, "guard");
        guard.setDaemon(true);
        guard.start();
        if (options.containsKey("--listen")) {
            listen(card, Integer.parseInt(options.get("--listen")), report);
        } else {
            connect(card, Integer.parseInt(options.get("--connect")), report);
        }
    }

    /** The options, or null if they are none. */
    private static Map<String, String> parse(String[] arguments) {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i < arguments.length; i += 2) {
            if (!OPTIONS.contains(arguments[i]) || i + 1 == arguments.length || options.put(arguments[i], arguments[i + 1]) != null) {
                return null;
            }
        }
        return options;
    }

    /** The class that replaces jCardSim's unseeded generator must be ours, and nobody may ask for a fixed seed. */
    static void requireGoodRandomness() {
        CodeSource found;
        try {
            found = Class.forName("com.licel.jcardsim.crypto.SecureRandomNullProvider").getProtectionDomain().getCodeSource();
        } catch (ClassNotFoundException error) {
            throw new IllegalStateException("jCardSim's generator is not there", error);
        }
        if (!found.getLocation().equals(Host.class.getProtectionDomain().getCodeSource().getLocation())) {
            throw new IllegalStateException("jCardSim's unseeded generator comes first on the class path");
        }
        if (System.getProperty("com.licel.jcardsim.randomdata.seed") != null) {
            throw new IllegalStateException("a fixed seed is asked for");
        }
        System.setProperty("com.licel.jcardsim.randomdata.secure", "1");
    }

    private static SimulatedCard open(Path path, String pinFile) throws IOException {
        StateFile file = new StateFile(path);
        try {
            if (!file.exists()) {
                if (pinFile == null) {
                    throw new IOException("there is no card, and no PIN to make one with");
                }
                byte[] pin = Files.readString(Path.of(pinFile)).strip().getBytes("US-ASCII");
                byte[] serial = new byte[Memory.SERIAL_BYTES];
                new SecureRandom().nextBytes(serial);
                if (!file.keep(Memory.blank(pin, (short) 0, (short) pin.length, serial))) {
                    throw new IOException("the new card could not be stored");
                }
            }
            return new SimulatedCard(new Memory(file.load(), file));
        } catch (ISOException error) {
            // The message names no content.
            throw new IOException("the PIN is no PACE-PIN, or the card's state is damaged", error);
        }
    }

    private static void listen(SimulatedCard card, int port, PrintStream report) throws IOException {
        try (ServerSocket server = new ServerSocket(port, 1, InetAddress.getLoopbackAddress())) {
            report.println("listening " + server.getLocalPort());
            report.flush();
            while (true) {
                try (Socket socket = server.accept()) {
                    serve(card, socket);
                }
            }
        }
    }

    private static void connect(SimulatedCard card, int port, PrintStream report) {
        InetSocketAddress reader = new InetSocketAddress(InetAddress.getLoopbackAddress(), port);
        while (true) {
            try (Socket socket = new Socket()) {
                socket.connect(reader);
                report.println("connected " + port);
                report.flush();
                serve(card, socket);
            } catch (IOException error) {
                pause();
            }
        }
    }

    private static void serve(SimulatedCard card, Socket socket) {
        try {
            new Vpcd(socket).serve(card);
        } catch (IOException error) {
            System.err.println("applet host: connection lost: " + error.getMessage());
        }
    }

    private static void pause() {
        try {
            Thread.sleep(CONNECT_PAUSE_MS);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    private static void untilInputEnds() {
        try {
            while (System.in.read() >= 0) {
                // Nothing is said on it.
            }
        } catch (IOException error) {
            // Ended too.
        }
        System.exit(0);
    }
}
