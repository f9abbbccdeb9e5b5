package smgw.host;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Path;
import java.util.HexFormat;
import javacard.framework.JCSystem;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import smgw.applet.Memory;

/** The applet on a line, without secure messaging: frames, power, lengths, the state file. */
class VpcdTest {
    private static final byte[] PIN = "1234567890".getBytes();
    private static final String SELECT = "00A4040C08F0534D475748534D";

    @TempDir Path folder;

    @BeforeAll
    static void randomness() {
        Host.requireGoodRandomness();
    }

    private SimulatedCard card() {
        SimulatedCard card = new SimulatedCard(new Memory(Memory.blank(PIN, (short) 0, (short) PIN.length, new byte[Memory.SERIAL_BYTES]), image -> true));
        card.reset();
        return card;
    }

    private static String send(SimulatedCard card, String hex) {
        return HexFormat.of().withUpperCase().formatHex(card.apdu(HexFormat.of().parseHex(hex)));
    }

    @Test
    void framesBothWays() throws Exception {
        try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
                Socket reader = new Socket(server.getInetAddress(), server.getLocalPort());
                Socket accepted = server.accept()) {
            SimulatedCard card = new SimulatedCard(new Memory(Memory.blank(PIN, (short) 0, (short) PIN.length, new byte[Memory.SERIAL_BYTES]), null));
            Thread serving = new Thread(() -> {
                try {
                    new Vpcd(accepted).serve(card);
                } catch (IOException error) {
                    throw new IllegalStateException(error);
                }
            });
            serving.start();
            DataOutputStream out = new DataOutputStream(reader.getOutputStream());
            DataInputStream in = new DataInputStream(reader.getInputStream());
            out.write(new byte[] {0, 1, 4});
            assertEquals("3B80800101", HexFormat.of().withUpperCase().formatHex(in.readNBytes(in.readUnsignedShort())));
            out.write(new byte[] {0, 1, 1, 0, 1, 2, 0, 0, 0, 1, 9});
            byte[] select = HexFormat.of().parseHex(SELECT);
            out.writeShort(select.length);
            out.write(select, 0, 3);
            out.flush();
            out.write(select, 3, select.length - 3);
            assertArrayEquals(new byte[] {(byte) 0x90, 0}, in.readNBytes(in.readUnsignedShort()));
            reader.shutdownOutput();
            serving.join();
            assertEquals(0, card.apdu(select).length, "without a reader there is no power");
        }
    }

    @Test
    void whatTheCardSaysWithoutASession() {
        SimulatedCard card = card();
        assertEquals("9000", send(card, SELECT));
        assertEquals("6A82", send(card, "00A4040C03F0534D"), "a part of the name is not the name");
        assertEquals("6A86", send(card, "00A4040008F0534D475748534D"));
        assertEquals("9000", send(card, "00A4020C02011C"));
        assertEquals("31143012" + "9000", send(card, "00B0000004"));
        assertEquals("6982", send(card, "0084000008"));
        assertEquals("6988", send(card, "0C84000000"));
        assertEquals("6E00", send(card, "8010000000"));
        assertEquals("6881", send(card, "0184000008"));
        assertEquals("6882", send(card, "0484000008"));
        assertEquals("6D00", send(card, "00CA000000"));
    }

    @Test
    void lengthsThatDoNotAgreeNeverReachTheApplet() {
        SimulatedCard card = card();
        for (String bad : new String[] {"00", "00A404", "00A4040C05F053", "00B000000000", "00B00000000000000000"}) {
            assertEquals("6700", send(card, bad), bad);
        }
        assertFalse(SimulatedCard.wellFormed(new byte[] {0, 0, 0, 0, 0, 0}));
        assertTrue(SimulatedCard.wellFormed(new byte[] {0, 0, 0, 0}));
        assertTrue(SimulatedCard.wellFormed(new byte[] {0, 0, 0, 0, 0, 1, 0}));
        assertTrue(SimulatedCard.wellFormed(new byte[] {0, 0, 0, 0, 1, 9, 0}));
    }

    @Test
    void aNonceUsesATryUpThatAResetDoesNotGiveBack() {
        SimulatedCard card = card();
        String start = "0022C1A412800A0400" + "7F000702020402028301038401" + "0D";
        String nonce = "10860000027C0000";
        assertEquals("9000", send(card, start));
        assertTrue(send(card, nonce).startsWith("7C128010"));
        card.reset();
        assertEquals("63C2", send(card, start));
        assertTrue(send(card, nonce).endsWith("9000"));
        card.reset();
        assertEquals("63C1", send(card, start));
        assertTrue(send(card, nonce).endsWith("9000"));
        assertEquals("63C0", send(card, start));
        assertEquals("6983", send(card, nonce));
    }

    @Test
    void theStateFileIsTakenByOneAndReplacedWhole() throws Exception {
        Path path = folder.resolve("card");
        StateFile file = new StateFile(path);
        assertThrows(IOException.class, () -> new StateFile(path));
        assertTrue(file.keep(new byte[] {1, 2}));
        assertTrue(file.keep(new byte[] {3}));
        assertArrayEquals(new byte[] {3}, file.load());
        file.close();
        StateFile other = new StateFile(path);
        assertTrue(other.exists());
        other.close();
    }

    @Test
    void transientArraysDoNotPileUp() {
        LeanTransientMemory memory = new LeanTransientMemory();
        byte[] kept = memory.makeByteArray(8, JCSystem.CLEAR_ON_RESET);
        kept[0] = 1;
        for (int i = 0; i < 50_000; i++) {
            memory.makeByteArray(64, JCSystem.CLEAR_ON_RESET);
            if (i % 5_000 == 0) {
                System.gc();
            }
        }
        assertTrue(memory.listed() < 40_000, "nothing was ever let go");
        memory.clearOnReset();
        assertEquals(0, kept[0], "what is still used is cleared");
        assertEquals(JCSystem.CLEAR_ON_RESET, memory.isTransient(kept));
        assertEquals(JCSystem.NOT_A_TRANSIENT_OBJECT, memory.isTransient(new byte[1]));
    }
}
