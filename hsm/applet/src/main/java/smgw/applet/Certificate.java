package smgw.applet;

import javacard.framework.JCSystem;
import javacard.framework.Util;

/** Reads the key and the basic constraints out of a TBSCertificate (RFC 5280, 4.1); anything that is none is 6A80. */
final class Certificate {
    private static final short SEQUENCE = 0x30;
    private static final short INTEGER = 0x02;
    private static final short BOOLEAN = 0x01;
    private static final short OID = 0x06;
    private static final short BITS = 0x03;
    private static final short OCTETS = 0x04;
    private static final short VERSION = 0xA0;
    private static final short EXTENSIONS = 0xA3;
    private static final byte[] EC_KEY = {0x2A, (byte) 0x86, 0x48, (byte) 0xCE, 0x3D, 0x02, 0x01};
    private static final byte[] BASIC_CONSTRAINTS = {0x55, 0x1D, 0x13};
    private static final byte[] P256 = {0x2A, (byte) 0x86, 0x48, (byte) 0xCE, 0x3D, 0x03, 0x01, 0x07};
    private static final byte[] P384 = {0x2B, (byte) 0x81, 0x04, 0x00, 0x22};
    /** The Brainpool curves but for the last arc: 07, 0B, 0D. */
    private static final byte[] BRAINPOOL = {0x2B, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01};

    private static final short POINT = 0;
    private static final short POINT_LENGTH = 1;

    private final Tlv tlv;
    private final Curves curves;
    private final short[] places = JCSystem.makeTransientShortArray((short) 2, JCSystem.CLEAR_ON_RESET);
    private final byte[] found = JCSystem.makeTransientByteArray((short) 2, JCSystem.CLEAR_ON_RESET);

    Certificate(Tlv tlv, Curves curves) {
        this.tlv = tlv;
        this.curves = curves;
    }

    /** Curve of the key read last. */
    byte curve() {
        return found[0];
    }

    /** Where its point begins in what was read. */
    short point() {
        return places[POINT];
    }

    /** True if it is a CA's. */
    boolean isCa() {
        return found[1] != 0;
    }

    /** Reads one; its key is a point of one of the five curves. */
    void read(byte[] data, short at, short end) {
        tlv.unwrap(SEQUENCE, data, at, end);
        short limit = tlv.end();
        tlv.read(data, tlv.start(), limit);
        if (tlv.tag() == VERSION) {
            tlv.read(data, tlv.end(), limit);
        }
        expect(INTEGER);
        // Algorithm, issuer, validity, subject, key.
        for (short i = 0; i < 5; i++) {
            tlv.read(data, tlv.end(), limit);
            expect(SEQUENCE);
        }
        short key = tlv.start();
        short keyEnd = tlv.end();
        found[1] = 0;
        for (short next = keyEnd; next < limit; ) {
            tlv.read(data, next, limit);
            next = tlv.end();
            if (tlv.tag() == EXTENSIONS && constrains(data, tlv.start(), next)) {
                found[1] = 1;
            }
        }
        readKey(data, key, keyEnd);
        curves.checkPoint(found[0], data, places[POINT], places[POINT_LENGTH]);
    }

    private void readKey(byte[] data, short at, short end) {
        tlv.read(data, at, end);
        expect(SEQUENCE);
        short algorithm = tlv.start();
        short algorithmEnd = tlv.end();
        tlv.unwrap(BITS, data, algorithmEnd, end);
        Context.check(tlv.length() > 1 && data[tlv.start()] == 0, Codings.SW_DATA);
        places[POINT] = (short) (tlv.start() + 1);
        places[POINT_LENGTH] = (short) (tlv.length() - 1);
        tlv.read(data, algorithm, algorithmEnd);
        expect(OID);
        Context.check(holds(data, EC_KEY), Codings.SW_DATA);
        tlv.unwrap(OID, data, tlv.end(), algorithmEnd);
        found[0] = curveOf(data);
        Context.check(found[0] != 0, Codings.SW_DATA);
    }

    /** True if basic constraints among the extensions say that this is a CA (RFC 5280, 4.2.1.9). */
    private boolean constrains(byte[] data, short at, short end) {
        tlv.unwrap(SEQUENCE, data, at, end);
        boolean ca = false;
        for (short next = tlv.start(); next < end; ) {
            tlv.read(data, next, end);
            next = tlv.end();
            if (isBasic(data, tlv.start(), next)) {
                // The value is the object read last.
                short limit = tlv.end();
                tlv.unwrap(SEQUENCE, data, tlv.start(), limit);
                if (tlv.length() != 0) {
                    tlv.read(data, tlv.start(), limit);
                    ca |= tlv.tag() == BOOLEAN && tlv.length() == 1 && data[tlv.start()] == (byte) 0xFF;
                    for (short rest = tlv.end(); rest < limit; rest = tlv.end()) {
                        tlv.read(data, rest, limit);
                    }
                }
            }
        }
        return ca;
    }

    /** Reads the parts of one extension; true if it is the basic constraints and ends in an OCTET STRING. */
    private boolean isBasic(byte[] data, short at, short end) {
        boolean named = false;
        boolean first = true;
        for (short next = at; next < end; next = tlv.end()) {
            tlv.read(data, next, end);
            if (first) {
                named = tlv.tag() == OID && holds(data, BASIC_CONSTRAINTS);
                first = false;
            }
        }
        return named && tlv.tag() == OCTETS;
    }

    private byte curveOf(byte[] data) {
        if (holds(data, P256)) {
            return Codings.CURVE_P256;
        }
        if (holds(data, P384)) {
            return Codings.CURVE_P384;
        }
        short prefix = (short) BRAINPOOL.length;
        if (tlv.length() != (short) (prefix + 1) || Util.arrayCompare(data, tlv.start(), BRAINPOOL, (short) 0, prefix) != 0) {
            return 0;
        }
        switch (data[(short) (tlv.start() + prefix)]) {
            case 0x07:
                return Codings.CURVE_BRAINPOOL_P256;
            case 0x0B:
                return Codings.CURVE_BRAINPOOL_P384;
            case 0x0D:
                return Codings.CURVE_BRAINPOOL_P512;
            default:
                return 0;
        }
    }

    private boolean holds(byte[] data, byte[] value) {
        short length = (short) value.length;
        return tlv.length() == length && Util.arrayCompare(data, tlv.start(), value, (short) 0, length) == 0;
    }

    private void expect(short tag) {
        Context.check(tlv.tag() == tag, Codings.SW_DATA);
    }
}
