package smgw.applet;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import javacard.framework.ISOException;
import org.junit.jupiter.api.Test;

/** The image, and what happens when it cannot be stored. */
class MemoryTest {
    private static final byte[] PIN = "1234567890".getBytes();

    private boolean broken;
    private byte[] stored;

    private boolean keep(byte[] image) {
        if (broken) {
            return false;
        }
        stored = image.clone();
        return true;
    }

    private Memory fresh() {
        return new Memory(Memory.blank(PIN, (short) 0, (short) PIN.length, new byte[Memory.SERIAL_BYTES]), this::keep);
    }

    @Test
    void aUsedTryIsStored() {
        Memory memory = fresh();
        memory.useTry();
        assertEquals(Codings.PIN_TRIES - 1, new Memory(stored, null).pinLeft());
        memory.restoreTries();
        assertEquals(Codings.PIN_TRIES, new Memory(stored, null).pinLeft());
    }

    @Test
    void aTryThatCannotBeStoredIsUsedAllTheSame() {
        Memory memory = fresh();
        broken = true;
        assertEquals(Codings.SW_WRITE_FAILED, assertThrows(ISOException.class, memory::useTry).getReason());
        assertEquals(Codings.PIN_TRIES - 1, memory.pinLeft());
    }

    @Test
    void aKeyThatCannotBeStoredIsNotThere() {
        Memory memory = fresh();
        KeyStore keys = new KeyStore(memory, new Curves());
        byte[] before = memory.image.clone();
        broken = true;
        assertThrows(ISOException.class, () -> keys.generate((byte) 1, Codings.CURVE_P256));
        assertArrayEquals(before, memory.image);
        broken = false;
        keys.generate((byte) 1, Codings.CURVE_P256);
        broken = true;
        assertThrows(ISOException.class, () -> keys.erase((byte) 1));
        keys.require((byte) 1);
    }

    @Test
    void aDamagedImageIsRefused() {
        byte[] image = Memory.blank(PIN, (short) 0, (short) PIN.length, new byte[Memory.SERIAL_BYTES]);
        for (int at : new int[] {0, 2, 5, 7, 40, image.length - 1}) {
            byte[] damaged = image.clone();
            damaged[at] ^= 1;
            assertThrows(ISOException.class, () -> new Memory(damaged, null));
        }
        assertThrows(ISOException.class, () -> new Memory(new byte[3], null));
    }

    @Test
    void aPinHasTenDigits() {
        for (String pin : new String[] {"123456789", "12345678x0", "", "123456789012345678901234567890123"}) {
            assertThrows(ISOException.class, () -> Memory.blank(pin.getBytes(), (short) 0, (short) pin.length(), new byte[Memory.SERIAL_BYTES]));
        }
    }
}
