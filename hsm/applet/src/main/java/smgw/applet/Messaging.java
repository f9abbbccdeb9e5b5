package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;
import javacard.security.Signature;
import javacardx.crypto.Cipher;

/**
 * Secure messaging, the card's end (TR-03110-3 v2.2, annex F): even INS with object 87, odd INS with 85.
 *
 * <p>A missing data object is 6987, a wrong one 6988; the caller answers them in the clear and ends the session.
 */
final class Messaging {
    static final short BLOCK = 16;
    static final short MAC_BYTES = 8;

    private static final short DATA_TAG = 0;
    private static final short DATA_AT = 1;
    private static final short DATA_END = 2;
    private static final short LE_AT = 3;
    private static final short LE_LENGTH = 4;
    private static final short MAC_AT = 5;
    private static final short MAC_LENGTH = 6;
    private static final short FOUND = 7;

    private final Tlv tlv;
    private final Cipher ecb = Cipher.getInstance(Cipher.ALG_AES_BLOCK_128_ECB_NOPAD, false);
    private final Cipher cbc = Cipher.getInstance(Cipher.ALG_AES_BLOCK_128_CBC_NOPAD, false);
    private final Signature cmac = Signature.getInstance(Signature.ALG_AES_CMAC_128, false);
    private final byte[] counter = JCSystem.makeTransientByteArray(BLOCK, JCSystem.CLEAR_ON_RESET);
    private final byte[] block = JCSystem.makeTransientByteArray(BLOCK, JCSystem.CLEAR_ON_RESET);
    private final byte[] tag = JCSystem.makeTransientByteArray(BLOCK, JCSystem.CLEAR_ON_RESET);
    private final short[] found = JCSystem.makeTransientShortArray(FOUND, JCSystem.CLEAR_ON_RESET);
    private final Object[] suite = JCSystem.makeTransientObjectArray((short) 1, JCSystem.CLEAR_ON_RESET);

    Messaging(Tlv tlv) {
        this.tlv = tlv;
    }

    boolean alive() {
        return suite[0] != null;
    }

    /** Begins a session with the keys the suite holds. */
    void start(Suite keys) {
        Util.arrayFillNonAtomic(counter, (short) 0, BLOCK, (byte) 0);
        suite[0] = keys;
    }

    /** Ends the session. */
    void end() {
        if (suite[0] != null) {
            ((Suite) suite[0]).clear();
            suite[0] = null;
        }
        Util.arrayFillNonAtomic(counter, (short) 0, BLOCK, (byte) 0);
    }

    /** Checks a protected command and puts what was meant in its place. {@code spare} is used as working space. */
    void open(Command command, Reply spare) {
        count();
        boolean odd = (command.ins() & 1) != 0;
        byte[] data = command.data;
        short covered = objects(data, command.length());
        if (found[MAC_AT] == 0) {
            ISOException.throwIt(Codings.SW_SM_MISSING);
        }
        beginMac();
        pad(block, (short) 0, command.header, (short) 4);
        if (covered == 0) {
            cmac.sign(block, (short) 0, BLOCK, tag, (short) 0);
        } else {
            cmac.update(block, (short) 0, BLOCK);
            endMac(data, covered);
        }
        if (found[MAC_LENGTH] != MAC_BYTES || !equal(data, found[MAC_AT], tag, MAC_BYTES)) {
            ISOException.throwIt(Codings.SW_SM_WRONG);
        }
        // Le first: opening the data overwrites the objects.
        short le = expected(data);
        short length = decrypt(odd, data, spare);
        command.setLength(length);
        command.setLe(le);
        command.header[0] &= (byte) 0xF3;
    }

    /** Protects a reply; {@code spare} is used as working space. */
    void close(boolean odd, Reply reply, short sw, byte[] spare) {
        count();
        short length = reply.length();
        if (length != 0) {
            short padded = (short) (length + BLOCK - length % BLOCK);
            reply.data[length] = (byte) 0x80;
            Util.arrayFillNonAtomic(reply.data, (short) (length + 1), (short) (padded - length - 1), (byte) 0);
            initCbc(Cipher.MODE_ENCRYPT);
            cbc.doFinal(reply.data, (short) 0, padded, spare, (short) 0);
            reply.setLength(padded);
            reply.clear();
            if (odd) {
                reply.open((short) 0x85, padded);
            } else {
                reply.open((short) 0x87, (short) (padded + 1));
                reply.append((byte) 0x01);
            }
            reply.append(spare, (short) 0, padded);
        }
        reply.open((short) 0x99, (short) 2);
        reply.append((byte) (sw >> 8));
        reply.append((byte) sw);
        beginMac();
        endMac(reply.data, reply.length());
        reply.open((short) 0x8E, MAC_BYTES);
        reply.append(tag, (short) 0, MAC_BYTES);
    }

    /** CMAC over a whole message with a key of a suite: the authentication token of PACE. First 8 octets to {@code out}. */
    void token(Suite keys, byte[] message, short length, byte[] out) {
        cmac.init(keys.key(Suite.MAC), Signature.MODE_SIGN);
        cmac.sign(message, (short) 0, length, tag, (short) 0);
        Util.arrayCopyNonAtomic(tag, (short) 0, out, (short) 0, MAC_BYTES);
    }

    /** AES-CBC of one block with IV 0 under the password key: the nonce of PACE. */
    void encryptNonce(Suite keys, byte[] nonce, byte[] out, short offset) {
        Util.arrayFillNonAtomic(block, (short) 0, BLOCK, (byte) 0);
        cbc.init(keys.key(Suite.PASSWORD), Cipher.MODE_ENCRYPT, block, (short) 0, BLOCK);
        cbc.doFinal(nonce, (short) 0, BLOCK, out, offset);
    }

    /** Compares without stopping at the first difference. */
    static boolean equal(byte[] left, short at, byte[] right, short length) {
        byte difference = 0;
        for (short i = 0; i < length; i++) {
            difference |= (byte) (left[(short) (at + i)] ^ right[i]);
        }
        return difference == 0;
    }

    /** Finds the objects, in their one permitted order; returns where the last one starts. Anything else is 6988. */
    private short objects(byte[] data, short limit) {
        short at = 0;
        short covered = 0;
        short last = -1;
        for (short i = 0; i < FOUND; i++) {
            found[i] = 0;
        }
        while (at < limit) {
            covered = at;
            try {
                tlv.read(data, at, limit);
            } catch (ISOException error) {
                ISOException.throwIt(Codings.SW_SM_WRONG);
            }
            short rank = rank(tlv.tag());
            if (rank <= last) {
                ISOException.throwIt(Codings.SW_SM_WRONG);
            }
            last = rank;
            if (rank == 0) {
                found[DATA_TAG] = tlv.tag();
                found[DATA_AT] = tlv.start();
                found[DATA_END] = tlv.end();
            } else if (rank == 1) {
                found[LE_AT] = tlv.start();
                found[LE_LENGTH] = tlv.length();
            } else {
                found[MAC_AT] = tlv.start();
                found[MAC_LENGTH] = tlv.length();
            }
            at = tlv.end();
        }
        return covered;
    }

    /** Place of a tag in the order, or -1. */
    private static short rank(short tag) {
        switch (tag) {
            case 0x85:
            case 0x87:
                return 0;
            case 0x97:
                return 1;
            case 0x8E:
                return 2;
            default:
                return -1;
        }
    }

    private short decrypt(boolean odd, byte[] data, Reply spare) {
        short sealed = found[DATA_TAG];
        if (sealed == 0) {
            return 0;
        }
        if (sealed != (odd ? 0x85 : 0x87)) {
            ISOException.throwIt(Codings.SW_SM_MISSING);
        }
        short at = found[DATA_AT];
        short length = (short) (found[DATA_END] - at);
        if (!odd) {
            if (length == 0 || data[at] != 1) {
                ISOException.throwIt(Codings.SW_SM_WRONG);
            }
            at++;
            length--;
        }
        if (length == 0 || length % BLOCK != 0) {
            ISOException.throwIt(Codings.SW_SM_WRONG);
        }
        initCbc(Cipher.MODE_DECRYPT);
        cbc.doFinal(data, at, length, spare.data, (short) 0);
        Util.arrayCopyNonAtomic(spare.data, (short) 0, data, (short) 0, length);
        spare.setLength(length);
        spare.clear();
        short end = (short) (length - 1);
        while (end > (short) (length - BLOCK) && data[end] == 0) {
            end--;
        }
        if (data[end] != (byte) 0x80) {
            ISOException.throwIt(Codings.SW_SM_WRONG);
        }
        return end;
    }

    private short expected(byte[] data) {
        short at = found[LE_AT];
        if (at == 0) {
            return Command.NO_LE;
        }
        if (found[LE_LENGTH] == 1) {
            return data[at] == 0 ? 256 : (short) (data[at] & 0xFF);
        }
        if (found[LE_LENGTH] == 2) {
            short le = Util.getShort(data, at);
            return le <= 0 ? Command.MAX_LE : le;
        }
        ISOException.throwIt(Codings.SW_SM_WRONG);
        return 0;
    }

    private void count() {
        short at = (short) (BLOCK - 1);
        do {
            counter[at]++;
        } while (counter[at] == 0 && --at >= 0);
    }

    private void initCbc(byte mode) {
        Suite keys = (Suite) suite[0];
        ecb.init(keys.key(Suite.ENCRYPTION), Cipher.MODE_ENCRYPT);
        ecb.doFinal(counter, (short) 0, BLOCK, block, (short) 0);
        cbc.init(keys.key(Suite.ENCRYPTION), mode, block, (short) 0, BLOCK);
    }

    private void beginMac() {
        cmac.init(((Suite) suite[0]).key(Suite.MAC), Signature.MODE_SIGN);
        cmac.update(counter, (short) 0, BLOCK);
    }

    /** Ends the MAC over SSC, what was updated, and the padded message. */
    private void endMac(byte[] message, short length) {
        short rest = (short) (length % BLOCK);
        short whole = (short) (length - rest);
        cmac.update(message, (short) 0, whole);
        pad(block, whole, message, rest);
        cmac.sign(block, (short) 0, BLOCK, tag, (short) 0);
    }

    /** Fills a block with {@code rest} octets of a message, 80, and zeros. */
    private static void pad(byte[] block, short at, byte[] message, short rest) {
        Util.arrayFillNonAtomic(block, (short) 0, BLOCK, (byte) 0);
        Util.arrayCopyNonAtomic(message, at, block, (short) 0, rest);
        block[rest] = (byte) 0x80;
    }
}
