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

    /**
     * Takes a whole command out of an envelope (ISO/IEC 7816-3, 12.1.3).
     *
     * @return false if its lengths do not agree, or if there is no room
     */
    boolean parse(byte[] from, short count) {
        short at = 5;
        short length = 0;
        short le = NO_LE;
        short rest = 0;
        if (count < 4) {
            return false;
        }
        if (count == 5) {
            le = shortLe(from[4]);
        } else if (count > 5) {
            length = (short) (from[4] & 0xFF);
            if (length != 0) {
                rest = (short) (count - 5 - length);
                if (rest == 1) {
                    le = shortLe(from[(short) (count - 1)]);
                }
            } else if (count < 7) {
                return false;
            } else if (count == 7) {
                le = longLe(from, (short) 5);
            } else {
                at = 7;
                length = Util.getShort(from, (short) 5);
                if (length <= 0) {
                    return false;
                }
                rest = (short) (count - 7 - length);
                if (rest == 2) {
                    le = longLe(from, (short) (count - 2));
                }
            }
            if (rest != 0 && le == NO_LE) {
                return false;
            }
        }
        if (length > MAX_DATA) {
            return false;
        }
        Util.arrayCopyNonAtomic(from, (short) 0, header, (short) 0, (short) 4);
        if (length != 0) {
            Util.arrayCopyNonAtomic(from, at, data, (short) 0, length);
        }
        setLength(length);
        setLe(le);
        return true;
    }

    private static short shortLe(byte le) {
        return le == 0 ? 256 : (short) (le & 0xFF);
    }

    private static short longLe(byte[] from, short at) {
        short le = Util.getShort(from, at);
        return le <= 0 ? MAX_LE : le;
    }
}
