package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;
import javacard.security.ECPrivateKey;

/**
 * Private keys by reference: static ones in {@link Memory}, ephemeral ones in transient memory, gone with the session.
 *
 * <p>A record is curve id (0: empty) | scalar | point, both left-aligned in fields of the longest length.
 */
final class KeyStore {
    /** Set in the reference of the slot where a key's successor waits. */
    private static final byte PENDING = (byte) 0x80;
    /** The store's key comes last: it alone has no successor. */
    private static final byte[] STATIC = {
        0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x11, 0x12, 0x13,
        (byte) 0x81, (byte) 0x82, (byte) 0x83, (byte) 0x84, (byte) 0x85, (byte) 0x90, (byte) 0x91, (byte) 0x92, (byte) 0x93,
        0x08
    };
    private static final short SUCCEEDED = 9;
    private static final short SCALAR = 1;
    private static final short POINT = (short) (SCALAR + Curves.MAX_FIELD);
    private static final short RECORD = (short) (POINT + Curves.MAX_POINT);

    /** What the static keys take of the image. */
    static final short STATIC_BYTES = (short) (19 * RECORD);

    private final Memory memory;
    private final Curves curves;
    private final byte[] ephemeral =
            JCSystem.makeTransientByteArray((short) (Codings.EPHEMERAL_COUNT * RECORD), JCSystem.CLEAR_ON_RESET);
    private final byte[] fresh = JCSystem.makeTransientByteArray(RECORD, JCSystem.CLEAR_ON_RESET);

    KeyStore(Memory memory, Curves curves) {
        this.memory = memory;
        this.curves = curves;
    }

    /** True for the reference of an ephemeral slot. */
    static boolean isEphemeral(byte reference) {
        short slot = (short) (reference - Codings.EPHEMERAL_FIRST);
        return slot >= 0 && slot < Codings.EPHEMERAL_COUNT;
    }

    /** True if there is a slot of this reference. */
    static boolean isKnown(byte reference) {
        return isEphemeral(reference) || index(reference) >= 0;
    }

    /** True if the slot holds a key. */
    boolean occupied(byte reference) {
        return isKnown(reference) && bank(reference)[record(reference)] != 0;
    }

    /** 6A88 unless there is a key. */
    void require(byte reference) {
        if (!occupied(reference)) {
            ISOException.throwIt(Codings.SW_REFERENCE);
        }
    }

    byte curve(byte reference) {
        require(reference);
        return bank(reference)[record(reference)];
    }

    /** Makes a key pair in a known slot, replacing what was there; 6581 if it could not be stored, then nothing changed. */
    void generate(byte reference, byte curve) {
        ECPrivateKey key = curves.generate(curve, null, (short) 0, fresh, POINT);
        fresh[0] = curve;
        curves.scalar(key, curve, fresh, SCALAR);
        key.clearKey();
        put(reference);
    }

    /** Erases the key of an occupied slot; 6581 as {@link #generate}. */
    void erase(byte reference) {
        put(reference);
    }

    /** Puts a pending key in the place of the current one, which is erased; 6A88 if there is none, 6581 as {@link #generate}. */
    void activate(byte reference) {
        short index = index(reference);
        if (index < 0 || index >= SUCCEEDED) {
            ISOException.throwIt(Codings.SW_REFERENCE);
        }
        byte pending = (byte) (reference | PENDING);
        require(pending);
        memory.begin();
        Util.arrayCopyNonAtomic(memory.image, record(pending), memory.image, record(reference), RECORD);
        Util.arrayFillNonAtomic(memory.image, record(pending), RECORD, (byte) 0);
        if (!memory.commit()) {
            ISOException.throwIt(Codings.SW_WRITE_FAILED);
        }
    }

    /** Appends the point to a reply. */
    void publicPoint(byte reference, Reply reply) {
        reply.append(bank(reference), (short) (record(reference) + POINT), Curves.pointBytes(curve(reference)));
    }

    /** Appends r | s; 6A80 unless the digest is as long as the hash that goes with the curve. */
    void sign(byte reference, byte[] digest, short length, Reply reply) {
        byte curve = curve(reference);
        short field = Curves.fieldBytes(curve);
        if (length != field) {
            ISOException.throwIt(Codings.SW_DATA);
        }
        ECPrivateKey key = load(reference, curve);
        curves.sign(key, curve, digest, (short) 0, reply.data, reply.length());
        key.clearKey();
        reply.setLength((short) (reply.length() + 2 * field));
    }

    /** Appends Z; 6A80 for a bad point or the slot's own, 6985 for a Z of zero. */
    void agree(byte reference, byte[] peer, short at, short length, Reply reply) {
        byte curve = curve(reference);
        short field = Curves.fieldBytes(curve);
        short own = (short) (record(reference) + POINT);
        if (length == Curves.pointBytes(curve) && Util.arrayCompare(peer, at, bank(reference), own, length) == 0) {
            ISOException.throwIt(Codings.SW_DATA);
        }
        ECPrivateKey key = load(reference, curve);
        try {
            curves.agree(key, curve, peer, at, length, reply.data, reply.length());
        } finally {
            key.clearKey();
        }
        byte seen = 0;
        for (short i = 0; i < field; i++) {
            seen |= reply.data[(short) (reply.length() + i)];
        }
        if (seen == 0) {
            ISOException.throwIt(Codings.SW_CONDITIONS);
        }
        reply.setLength((short) (reply.length() + field));
    }

    /** End of the session. */
    void clearEphemeral() {
        Util.arrayFillNonAtomic(ephemeral, (short) 0, (short) ephemeral.length, (byte) 0);
    }

    private ECPrivateKey load(byte reference, byte curve) {
        return curves.load(curve, bank(reference), (short) (record(reference) + SCALAR), Curves.fieldBytes(curve));
    }

    /** Moves {@link #fresh} into a slot, and empties it. */
    private void put(byte reference) {
        byte[] bank = bank(reference);
        boolean lasting = bank == memory.image;
        if (lasting) {
            memory.begin();
        }
        Util.arrayCopyNonAtomic(fresh, (short) 0, bank, record(reference), RECORD);
        Util.arrayFillNonAtomic(fresh, (short) 0, RECORD, (byte) 0);
        if (lasting && !memory.commit()) {
            ISOException.throwIt(Codings.SW_WRITE_FAILED);
        }
    }

    private byte[] bank(byte reference) {
        return isEphemeral(reference) ? ephemeral : memory.image;
    }

    private short record(byte reference) {
        if (isEphemeral(reference)) {
            return (short) ((reference - Codings.EPHEMERAL_FIRST) * RECORD);
        }
        return (short) (memory.keysOffset() + index(reference) * RECORD);
    }

    private static short index(byte reference) {
        for (short i = 0; i < STATIC.length; i++) {
            if (STATIC[i] == reference) {
                return i;
            }
        }
        return -1;
    }
}
