package smgw.applet;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.HexFormat;
import javacard.framework.ISOException;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** Beyond the core: created files, imported keys, service keys, the PIN, each either stored whole or not at all. */
class WholeTableTest {
    private static final byte[] PIN = "1234567890".getBytes();
    private static final byte CURVE = Codings.CURVE_BRAINPOOL_P256;

    private boolean broken;
    private Memory memory;
    private Curves curves;
    private KeyStore keys;
    private PublicKeys publics;
    private FileSystem files;
    private Reply reply;

    @BeforeEach
    void aCard() {
        broken = false;
        memory = new Memory(Memory.blank(PIN, (short) 0, (short) PIN.length, new byte[Memory.SERIAL_BYTES]), image -> !broken);
        curves = new Curves();
        keys = new KeyStore(memory, curves);
        publics = new PublicKeys(memory, curves);
        files = new FileSystem(memory, keys, publics);
        reply = new Reply();
    }

    private static byte[] bytes(String hex) {
        return HexFormat.of().parseHex(hex);
    }

    private static short status(Executable refused) {
        return assertThrows(ISOException.class, refused).getReason();
    }

    private byte[] point() {
        byte[] point = new byte[Curves.pointBytes(CURVE)];
        curves.generate(CURVE, null, (short) 0, point, (short) 0).clearKey();
        return point;
    }

    private void fill(int file, int size, int filler) {
        files.create((short) file, (short) size);
        byte[] content = new byte[size];
        Arrays.fill(content, (byte) filler);
        files.update((short) 0, content, (short) size);
    }

    private byte[] content(int file, int size) {
        files.select((short) file);
        reply.clear();
        assertTrue(files.read((short) 0, (short) size, reply));
        return Arrays.copyOf(reply.data, reply.length());
    }

    private static byte[] filled(int size, int filler) {
        byte[] content = new byte[size];
        Arrays.fill(content, (byte) filler);
        return content;
    }

    @Test
    void keyWrapOfTheStandardsExample() {
        // RFC 3394, 4.6
        KeyWrap wrapping = new KeyWrap();
        wrapping.use(bytes("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"));
        byte[] out = new byte[40];
        wrapping.wrap(bytes("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F"), (short) 0, (short) 32, out, (short) 0);
        assertArrayEquals(bytes("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"), out);
    }

    @Test
    void aDeletedFileLeavesTheOthersAsTheyWere() {
        fill(0x0201, 100, 1);
        fill(0x0202, 50, 2);
        fill(0x0203, 70, 3);
        files.delete((short) 0x0202);
        assertArrayEquals(filled(100, 1), content(0x0201, 100));
        assertArrayEquals(filled(70, 3), content(0x0203, 70));
        assertEquals(Codings.SW_NO_FILE, status(() -> files.select((short) 0x0202)));
        files.create((short) 0x0204, (short) 50);
        assertArrayEquals(new byte[50], content(0x0204, 50));
    }

    @Test
    void thePoolAndItsTableAreBounded() {
        files.create((short) 0x0201, FileSystem.POOL_BYTES);
        assertEquals(Codings.SW_MEMORY, status(() -> files.create((short) 0x0202, (short) 1)));
        files.delete((short) 0x0201);
        for (short i = 0; i < FileSystem.CREATED_COUNT; i++) {
            fill(0x0210 + i, 16, i);
        }
        assertEquals(Codings.SW_MEMORY, status(() -> files.create((short) 0x0202, (short) 1)));
        files.delete((short) 0x0210);
        assertArrayEquals(filled(16, FileSystem.CREATED_COUNT - 1), content(0x0210 + FileSystem.CREATED_COUNT - 1, 16));
        // Its neighbours in the image are what they were.
        new Memory(memory.image.clone(), null);
        assertFalse(publics.stored(Codings.PUBLIC_ROOT));
    }

    @Test
    void aTerminatedFileIsEmptyAndClosed() {
        files.create((short) 0x0201, (short) 16);
        byte[] empty = memory.image.clone();
        files.update((short) 0, filled(16, 9), (short) 16);
        files.terminate();
        assertEquals(Codings.SW_TERMINATED, status(() -> files.select((short) 0x0201)));
        assertEquals(Codings.SW_TERMINATED, status(() -> files.update((short) 0, filled(16, 9), (short) 16)));
        // But for the mark and the check sum, the memory is that of an empty file.
        int mark = Arrays.mismatch(empty, memory.image);
        empty[mark] = 1;
        assertEquals(-1, Arrays.mismatch(empty, 0, Memory.BYTES - 4, memory.image, 0, Memory.BYTES - 4));
    }

    @Test
    void whatCannotBeStoredDidNotHappen() {
        byte[] point = point();
        fill(0x0201, 16, 7);
        keys.generateFor(Codings.SERVICE_FIRST, CURVE, CURVE, point, (short) 0);
        keys.generate((byte) 0x10, CURVE);
        keys.generate((byte) 0x90, CURVE);
        publics.put(Codings.PUBLIC_ROOT_NEXT, CURVE, point, (short) 0);
        byte[] before = memory.image.clone();
        broken = true;
        Executable[] changes = {
            () -> files.create((short) 0x0202, (short) 16),
            () -> files.delete((short) 0x0201),
            () -> files.terminate(),
            () -> files.update((short) 0, point, (short) 8),
            () -> keys.generateFor((byte) (Codings.SERVICE_FIRST + 1), CURVE, CURVE, point, (short) 0),
            () -> keys.export(Codings.SERVICE_FIRST, reply),
            () -> keys.suspend((byte) 0x10, false),
            () -> keys.activate((byte) 0x10),
            () -> publics.put(Codings.PUBLIC_ROOT, CURVE, point, (short) 0),
            () -> publics.activateRoot(),
            () -> publics.erase(Codings.PUBLIC_ROOT_NEXT),
            () -> memory.renewPin(point, (short) 0, (short) 12, true),
            () -> memory.switchPin(false),
            () -> memory.enter(Codings.LIFE_OPERATIONAL),
            () -> memory.terminate(),
        };
        for (Executable change : changes) {
            assertEquals(Codings.SW_WRITE_FAILED, status(change));
            assertArrayEquals(before, memory.image);
        }
    }

    @Test
    void anExportThatWasRefusedLeavesNothingInTheReply() {
        keys.generateFor(Codings.SERVICE_FIRST, CURVE, CURVE, point(), (short) 0);
        broken = true;
        assertEquals(Codings.SW_WRITE_FAILED, status(() -> keys.export(Codings.SERVICE_FIRST, reply)));
        // As the applet does with every refusal.
        reply.clear();
        assertArrayEquals(new byte[reply.data.length], reply.data);
    }

    @Test
    void anErasedServiceKeyLeavesNeitherScalarNorReceiver() {
        byte[] before = memory.image.clone();
        keys.generateFor(Codings.SERVICE_FIRST, CURVE, CURVE, point(), (short) 0);
        assertFalse(Arrays.equals(before, memory.image));
        keys.export(Codings.SERVICE_FIRST, reply);
        assertArrayEquals(before, memory.image);
    }

    @Test
    void aTerminatedCardHoldsNothing() {
        byte[] point = point();
        fill(0x0201, 16, 7);
        keys.generate((byte) 0x01, CURVE);
        publics.put(Codings.PUBLIC_ROOT, CURVE, point, (short) 0);
        memory.terminate();
        short from = memory.pinOffset();
        assertArrayEquals(new byte[Memory.BYTES - 4 - from], Arrays.copyOfRange(memory.image, from, Memory.BYTES - 4));
        assertEquals(Codings.LIFE_TERMINATED, new Memory(memory.image.clone(), null).lifeCycle());
    }

    @Test
    void onlyPointsOfTheCurveAreKept() {
        byte[] point = point();
        short length = (short) point.length;
        curves.checkPoint(CURVE, point, (short) 0, length);
        point[length - 1] ^= 1;
        assertEquals(Codings.SW_DATA, status(() -> curves.checkPoint(CURVE, point, (short) 0, length)));
        assertEquals(Codings.SW_DATA, status(() -> curves.checkPoint(CURVE, point, (short) 0, (short) (length - 1))));
    }

    @Test
    void aCommandInAnEnvelopeHasOneOfSevenForms() {
        Command command = new Command();
        Object[][] forms = {
            // hex, length, Le
            {"00840000", 0, (int) Command.NO_LE},
            {"0084000008", 0, 8},
            {"0084000000", 0, 256},
            {"00d6000002aabb", 2, (int) Command.NO_LE},
            {"00d6000002aabb05", 2, 5},
            {"00840000000100", 0, 256},
            {"00840000000000", 0, (int) Command.MAX_LE},
            {"00d60000000002aabb", 2, (int) Command.NO_LE},
            {"00d60000000002aabb0010", 2, 16},
        };
        for (Object[] form : forms) {
            byte[] raw = bytes((String) form[0]);
            assertTrue(command.parse(raw, (short) raw.length), (String) form[0]);
            assertEquals(form[1], (int) command.length());
            assertEquals(form[2], (int) command.le());
        }
        String[] wrong = {
            "", "0084", "00d6000002aa", "00d6000002aabb0501", "008400000001", "00d60000000000aa", "00d60000000002aa",
            "00d60000000002aabb05", "00d60000000002aabb000000", "00d60000008000aa",
        };
        for (String hex : wrong) {
            byte[] raw = bytes(hex);
            assertFalse(command.parse(raw, (short) raw.length), hex);
        }
    }
}
