package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;

/**
 * Reads DER-TLV (TR-03110-3 v2.2, D.1: minimal lengths only). A reader stands on one data object after each call; everything malformed
 * ends in 6A80.
 */
final class Tlv {
    private static final short TAG = 0;
    private static final short START = 1;
    private static final short END = 2;

    private final short[] place = JCSystem.makeTransientShortArray((short) 3, JCSystem.CLEAR_ON_RESET);

    short tag() {
        return place[TAG];
    }

    /** Offset of the value. */
    short start() {
        return place[START];
    }

    /** Offset behind the value. */
    short end() {
        return place[END];
    }

    short length() {
        return (short) (place[END] - place[START]);
    }

    /** Reads the object at {@code at}; nothing of it may lie at or behind {@code limit}. Tags of up to two octets. */
    void read(byte[] data, short at, short limit) {
        if (at >= limit) {
            ISOException.throwIt(Codings.SW_DATA);
        }
        short tag = (short) (data[at] & 0xFF);
        at++;
        if ((tag & 0x1F) == 0x1F) {
            // A second octet below 1F would have fitted the first; a third octet belongs to no tag known here.
            if (at >= limit || (data[at] & 0x80) != 0 || (data[at] & 0x7F) < 0x1F) {
                ISOException.throwIt(Codings.SW_DATA);
            }
            tag = (short) (tag << 8 | data[at] & 0xFF);
            at++;
        }
        if (at >= limit) {
            ISOException.throwIt(Codings.SW_DATA);
        }
        short length = (short) (data[at] & 0xFF);
        at++;
        if (length >= 0x80) {
            short octets = (short) (length & 0x7F);
            // Two length octets hold more than any buffer here.
            if (octets < 1 || octets > 2 || (short) (at + octets) > limit) {
                ISOException.throwIt(Codings.SW_DATA);
            }
            length = (short) (data[at] & 0xFF);
            if (octets == 1 ? length < 0x80 : length == 0) {
                ISOException.throwIt(Codings.SW_DATA);
            }
            if (octets == 2) {
                length = (short) (length << 8 | data[(short) (at + 1)] & 0xFF);
            }
            at += octets;
        }
        if (length < 0 || length > (short) (limit - at)) {
            ISOException.throwIt(Codings.SW_DATA);
        }
        place[TAG] = tag;
        place[START] = at;
        place[END] = (short) (at + length);
    }

    /** Reads the one object with this tag that fills the range. */
    void unwrap(short tag, byte[] data, short at, short limit) {
        read(data, at, limit);
        if (place[TAG] != tag || place[END] != limit) {
            ISOException.throwIt(Codings.SW_DATA);
        }
    }

    /** The value of the object read last, which must be one octet. */
    byte octet(byte[] data) {
        if (length() != 1) {
            ISOException.throwIt(Codings.SW_DATA);
        }
        return data[place[START]];
    }
}
