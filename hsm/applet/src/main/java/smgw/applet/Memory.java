package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;
import javacard.security.Checksum;

/**
 * What lasts: one array with a version and a check sum, so that a host can store it in one piece.
 *
 * <p>Changes are made between {@link #begin} and {@link #commit}; nothing in between may throw. A simulator's transactions do not roll
 * back, so a host's {@link Keeper} gives the truth, and a shadow the old state.
 */
public final class Memory {
    private static final byte VERSION = 2;
    private static final short VERSION_AT = 2;
    private static final short LIFE_CYCLE_AT = 3;
    private static final short PIN_START_AT = 4;
    private static final short PIN_LEFT_AT = 5;
    private static final short PIN_LENGTH_AT = 6;
    private static final short PIN_OFF_AT = 7;
    private static final short SERIAL_AT = 8;
    private static final short PIN_AT = (short) (SERIAL_AT + 8);
    private static final short KEYS_AT = (short) (PIN_AT + Codings.PIN_MAX_DIGITS);
    private static final short PUBLIC_AT = (short) (KEYS_AT + KeyStore.STATIC_BYTES);
    private static final short FILES_AT = (short) (PUBLIC_AT + PublicKeys.STORED_BYTES);
    private static final short SUM_AT = (short) (FILES_AT + FileSystem.STORED_BYTES);

    /** Length of the image in bytes. */
    public static final short BYTES = (short) (SUM_AT + 4);

    /** Length of the serial number in bytes. */
    public static final short SERIAL_BYTES = 8;

    final byte[] image;
    private final byte[] shadow;
    private final Keeper keeper;
    private final Checksum checksum = Checksum.getInstance(Checksum.ALG_ISO3309_CRC32, false);

    /**
     * Takes an image over.
     *
     * @param image as {@link #blank} makes it or a keeper got it; 6F00 if it is damaged or of another version
     * @param keeper stores each new state, or null if the array is durable by itself
     */
    public Memory(byte[] image, Keeper keeper) {
        this.image = image;
        this.keeper = keeper;
        byte[] sum = new byte[4];
        if (image.length == BYTES) {
            sum(sum, (short) 0);
        }
        if (image.length != BYTES
                || image[0] != 'S'
                || image[1] != 'M'
                || image[VERSION_AT] != VERSION
                || Util.arrayCompare(sum, (short) 0, image, SUM_AT, (short) 4) != 0) {
            ISOException.throwIt(Codings.SW_INTERNAL);
        }
        shadow = keeper == null ? null : new byte[BYTES];
        remember();
    }

    /**
     * The image of a fresh, pre-personalised card.
     *
     * @param pin at least {@link Codings#PIN_MIN_DIGITS} decimal digits, else 6A80
     * @param serial the card's number, {@link #SERIAL_BYTES} long
     */
    public static byte[] blank(byte[] pin, short offset, short length, byte[] serial) {
        if (!isPin(pin, offset, length)) {
            ISOException.throwIt(Codings.SW_DATA);
        }
        byte[] image = new byte[BYTES];
        image[0] = 'S';
        image[1] = 'M';
        image[VERSION_AT] = VERSION;
        image[LIFE_CYCLE_AT] = Codings.LIFE_PRE_PERSONALISED;
        image[PIN_START_AT] = Codings.PIN_TRIES;
        image[PIN_LEFT_AT] = Codings.PIN_TRIES;
        image[PIN_LENGTH_AT] = (byte) length;
        Util.arrayCopyNonAtomic(serial, (short) 0, image, SERIAL_AT, SERIAL_BYTES);
        Util.arrayCopyNonAtomic(pin, offset, image, PIN_AT, length);
        Checksum sum = Checksum.getInstance(Checksum.ALG_ISO3309_CRC32, false);
        sum.doFinal(image, (short) 0, SUM_AT, image, SUM_AT);
        return image;
    }

    /** True for enough decimal digits and no more than there is room for. */
    static boolean isPin(byte[] pin, short offset, short length) {
        if (length < Codings.PIN_MIN_DIGITS || length > Codings.PIN_MAX_DIGITS) {
            return false;
        }
        for (short i = 0; i < length; i++) {
            byte digit = pin[(short) (offset + i)];
            if (digit < '0' || digit > '9') {
                return false;
            }
        }
        return true;
    }

    byte lifeCycle() {
        return image[LIFE_CYCLE_AT];
    }

    byte pinLeft() {
        return image[PIN_LEFT_AT];
    }

    boolean pinUntouched() {
        return image[PIN_LEFT_AT] == image[PIN_START_AT];
    }

    short pinLength() {
        return image[PIN_LENGTH_AT];
    }

    byte pinTries() {
        return image[PIN_START_AT];
    }

    boolean pinActive() {
        return image[PIN_OFF_AT] == 0;
    }

    short serialOffset() {
        return SERIAL_AT;
    }

    short pinOffset() {
        return PIN_AT;
    }

    short keysOffset() {
        return KEYS_AT;
    }

    short publicOffset() {
        return PUBLIC_AT;
    }

    short filesOffset() {
        return FILES_AT;
    }

    /** Uses one try up; it stays used in memory even if it could not be stored (6581). */
    void useTry() {
        begin();
        image[PIN_LEFT_AT]--;
        if (!commit()) {
            image[PIN_LEFT_AT]--;
            ISOException.throwIt(Codings.SW_WRITE_FAILED);
        }
    }

    /** All tries are there again. */
    void restoreTries() {
        begin();
        image[PIN_LEFT_AT] = image[PIN_START_AT];
        settle();
    }

    /** Another PIN with all its tries; {@code length} 0 keeps the old one. The PIN is on if it is to be, else as before. */
    void renewPin(byte[] pin, short offset, short length, boolean on) {
        begin();
        if (length != 0) {
            wipe(PIN_AT, Codings.PIN_MAX_DIGITS);
            write(pin, offset, PIN_AT, length);
            image[PIN_LENGTH_AT] = (byte) length;
        }
        image[PIN_LEFT_AT] = image[PIN_START_AT];
        if (on) {
            image[PIN_OFF_AT] = 0;
        }
        settle();
    }

    /** Switches the PIN on or off. */
    void switchPin(boolean on) {
        begin();
        image[PIN_OFF_AT] = (byte) (on ? 0 : 1);
        settle();
    }

    /** Enters a state of the life cycle. */
    void enter(byte lifeCycle) {
        begin();
        image[LIFE_CYCLE_AT] = lifeCycle;
        settle();
    }

    /** The end: every key, every file and the PIN are erased. */
    void terminate() {
        begin();
        image[LIFE_CYCLE_AT] = Codings.LIFE_TERMINATED;
        image[PIN_LEFT_AT] = 0;
        image[PIN_LENGTH_AT] = 0;
        wipe(PIN_AT, (short) (SUM_AT - PIN_AT));
        settle();
    }

    /** Writes a piece of the image, inside a change. */
    void write(byte[] from, short offset, short at, short length) {
        Util.arrayCopy(from, offset, image, at, length);
    }

    /** Zeroes a piece of the image, inside a change: by assignments, which the platform undoes if power goes. */
    void wipe(short at, short length) {
        short end = (short) (at + length);
        for (; at < end; at++) {
            image[at] = 0;
        }
    }

    /** Ends a change; 6581, and everything as before, if it could not be stored. */
    void settle() {
        if (!commit()) {
            ISOException.throwIt(Codings.SW_WRITE_FAILED);
        }
    }

    /** Opens a change. */
    void begin() {
        JCSystem.beginTransaction();
    }

    /** Makes the change durable; false, and everything as before, if that failed. */
    boolean commit() {
        sum(image, SUM_AT);
        JCSystem.commitTransaction();
        if (keeper != null && !keeper.keep(image)) {
            Util.arrayCopyNonAtomic(shadow, (short) 0, image, (short) 0, BYTES);
            return false;
        }
        remember();
        return true;
    }

    private void remember() {
        if (shadow != null) {
            Util.arrayCopyNonAtomic(image, (short) 0, shadow, (short) 0, BYTES);
        }
    }

    private void sum(byte[] out, short offset) {
        checksum.doFinal(image, (short) 0, SUM_AT, out, offset);
    }
}
