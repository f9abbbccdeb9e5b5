package smgw.applet;

import javacard.framework.JCSystem;
import javacard.framework.Util;

/** The answer being built: bytes appended in order, data objects with DER lengths. */
final class Reply {
    /** Room for a whole file under secure messaging. */
    static final short MAX_DATA = (short) (Codings.SIZE_IDENTIFIERS + 256);

    /** The most that one answer carries in the clear. */
    static final short ROOM = (short) (Codings.SIZE_IDENTIFIERS + 64);

    final byte[] data = JCSystem.makeTransientByteArray(MAX_DATA, JCSystem.CLEAR_ON_RESET);
    private final short[] numbers = JCSystem.makeTransientShortArray((short) 1, JCSystem.CLEAR_ON_RESET);

    short length() {
        return numbers[0];
    }

    void setLength(short length) {
        numbers[0] = length;
    }

    void clear() {
        Util.arrayFillNonAtomic(data, (short) 0, numbers[0], (byte) 0);
        numbers[0] = 0;
    }

    void append(byte[] from, short offset, short length) {
        numbers[0] = Util.arrayCopyNonAtomic(from, offset, data, numbers[0], length);
    }

    void append(byte value) {
        data[numbers[0]] = value;
        numbers[0]++;
    }

    /** Appends tag and length; the value is appended next. */
    void open(short tag, short length) {
        if ((tag & (short) 0xFF00) != 0) {
            append((byte) (tag >> 8));
        }
        append((byte) tag);
        if (length >= 0x100) {
            append((byte) 0x82);
            append((byte) (length >> 8));
        } else if (length >= 0x80) {
            append((byte) 0x81);
        }
        append((byte) length);
    }

    /** Puts tag and length in front of what is there, which becomes the value. */
    void insert(short tag, short length) {
        short header = overhead(tag, length);
        Util.arrayCopyNonAtomic(data, (short) 0, data, header, length);
        numbers[0] = 0;
        open(tag, length);
        numbers[0] = (short) (header + length);
    }

    /** Octets that tag and length of such an object take; tags here have one octet, or two if the upper one is not 0. */
    static short overhead(short tag, short length) {
        short octets = (short) ((tag & (short) 0xFF00) != 0 ? 3 : 2);
        if (length >= 0x100) {
            octets += 2;
        } else if (length >= 0x80) {
            octets += 1;
        }
        return octets;
    }
}
