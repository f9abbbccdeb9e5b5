package smgw.applet;

import javacard.framework.JCSystem;
import javacard.framework.Util;

/**
 * The command under way: header, data and the length asked for. One object, filled anew for each command; opened secure messaging
 * replaces its content by what was meant.
 */
final class Command {
    /** No length field Le. */
    static final short NO_LE = -1;
    /** The most this card counts; a larger Le means the same. */
    static final short MAX_LE = Short.MAX_VALUE;
    /** Room for a whole file under secure messaging. */
    static final short MAX_DATA = (short) (Codings.SIZE_IDENTIFIERS + 256);

    private static final short LENGTH = 0;
    private static final short LE = 1;

    /** CLA INS P1 P2. */
    final byte[] header = JCSystem.makeTransientByteArray((short) 4, JCSystem.CLEAR_ON_RESET);
    /** The data field, from its first byte. */
    final byte[] data = JCSystem.makeTransientByteArray(MAX_DATA, JCSystem.CLEAR_ON_RESET);
    private final short[] numbers = JCSystem.makeTransientShortArray((short) 2, JCSystem.CLEAR_ON_RESET);

    byte cla() {
        return header[0];
    }

    byte ins() {
        return header[1];
    }

    byte p1() {
        return header[2];
    }

    byte p2() {
        return header[3];
    }

    short p1p2() {
        return Util.getShort(header, (short) 2);
    }

    short length() {
        return numbers[LENGTH];
    }

    /** Bytes asked for, 1..{@link #MAX_LE}, or {@link #NO_LE}. */
    short le() {
        return numbers[LE];
    }

    boolean hasLe() {
        return numbers[LE] != NO_LE;
    }

    void setLength(short length) {
        numbers[LENGTH] = length;
    }

    void setLe(short le) {
        numbers[LE] = le;
    }
}
