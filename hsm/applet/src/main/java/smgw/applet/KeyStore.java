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
    /** Those with a successor come first, then the successors in the same order, the store's key, service keys. */
    private static final byte[] STATIC = {
        0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x11, 0x12, 0x13,
        (byte) 0x81, (byte) 0x82, (byte) 0x83, (byte) 0x84, (byte) 0x85, (byte) 0x90, (byte) 0x91, (byte) 0x92, (byte) 0x93,
        0x08, 0x50, 0x51, 0x52, 0x53
    };
    /** Set in the curve id of a record whose key is deactivated. */
    private static final byte DEACTIVATED = (byte) 0x80;

    // Kinds of keys, by what may be done with them.
    static final byte GATEWAY = 1;
    static final byte NET = 2;
    static final byte STORE = 3;
    static final byte SERVICE = 4;
    static final byte EPHEMERAL = 5;

    private static final short SUCCEEDED = 9;
    private static final short SCALAR = 1;
    private static final short POINT = (short) (SCALAR + Curves.MAX_FIELD);
    private static final short RECORD = (short) (POINT + Curves.MAX_POINT);

    /** What the static keys take of the image. */
    static final short STATIC_BYTES = (short) (23 * RECORD + Codings.SERVICE_COUNT * PublicKeys.RECORD);

    private final Memory memory;
    private final Curves curves;
    private final byte[] ephemeral =
            JCSystem.makeTransientByteArray((short) (Codings.EPHEMERAL_COUNT * RECORD), JCSystem.CLEAR_ON_RESET);
    private final KeyWrap wrapping = new KeyWrap();
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

    /** What a key of this reference is for; 6A88 if there is no such slot. */
    static byte kind(byte reference) {
        if (isEphemeral(reference)) {
            return EPHEMERAL;
        }
        if (index(reference) < 0) {
            ISOException.throwIt(Codings.SW_REFERENCE);
        }
        byte current = (byte) (reference & ~PENDING);
        if (current == 0x08) {
            return STORE;
        }
        return current >= Codings.SERVICE_FIRST ? SERVICE : current >= 0x10 ? NET : GATEWAY;
    }

    /** True for the slot of a successor. */
    static boolean isPending(byte reference) {
        return (reference & PENDING) != 0;
    }

    /** True if the slot holds a key. */
    boolean occupied(byte reference) {
        return (isEphemeral(reference) || index(reference) >= 0) && bank(reference)[record(reference)] != 0;
    }

    /** 6A88 unless there is a key. */
    void require(byte reference) {
        if (!occupied(reference)) {
            ISOException.throwIt(Codings.SW_REFERENCE);
        }
    }

    byte curve(byte reference) {
        require(reference);
        return (byte) (bank(reference)[record(reference)] & ~DEACTIVATED);
    }

    /** The curve of a key that is to be worked with; 6A88, 6984 if it is deactivated. */
    private byte use(byte reference) {
        byte curve = curve(reference);
        if (isDeactivated(reference)) {
            ISOException.throwIt(Codings.SW_UNUSABLE);
        }
        return curve;
    }

    private boolean isDeactivated(byte reference) {
        return (bank(reference)[record(reference)] & DEACTIVATED) != 0;
    }

    /** Makes a stored key unusable, or usable again; 6A88 if there is none, 6581. */
    void suspend(byte reference, boolean active) {
        if (isEphemeral(reference)) {
            ISOException.throwIt(Codings.SW_REFERENCE);
        }
        byte curve = curve(reference);
        memory.begin();
        memory.image[record(reference)] = active ? curve : (byte) (curve | DEACTIVATED);
        memory.settle();
    }

    /** Appends the references of the stored keys, or of those of them that are deactivated. */
    void list(Reply reply, boolean deactivated) {
        for (short i = 0; i < STATIC.length; i++) {
            if (occupied(STATIC[i]) && (!deactivated || isDeactivated(STATIC[i]))) {
                reply.append(STATIC[i]);
            }
        }
    }

    /**
     * Makes a service key pair in a free slot, for the owner of a point known to be good; 6581 as {@link #generate}.
     *
     * @param receiver the curve of that point
     */
    void generateFor(byte reference, byte curve, byte receiver, byte[] data, short point) {
        make(curve);
        short place = receiverPlace(reference);
        memory.begin();
        move(reference);
        memory.wipe(place, PublicKeys.RECORD);
        memory.image[place] = receiver;
        memory.write(data, point, (short) (place + 1), Curves.pointBytes(receiver));
        memory.settle();
    }

    /**
     * Appends 86 ephemeral point, 87 wrapped scalar of a service key, which is erased first; 6581, then nothing changed.
     *
     * <p>The wrapping key comes from an agreement with the receiver and the service key's own point (see {@code hsm.api.WrappedKey}).
     */
    void export(byte reference, Reply reply) {
        byte curve = use(reference);
        short field = Curves.fieldBytes(curve);
        short record = record(reference);
        short place = receiverPlace(reference);
        byte receiver = memory.image[place];
        short point = Curves.pointBytes(receiver);
        ECPrivateKey ephemeral = curves.generate(receiver, null, (short) 0, fresh, POINT);
        reply.open(Codings.TAG_PUBLIC_POINT, point);
        reply.append(fresh, POINT, point);
        try {
            curves.agree(ephemeral, receiver, memory.image, (short) (place + 1), point, fresh, SCALAR);
            wrapping.derive(fresh, SCALAR, Curves.fieldBytes(receiver),
                    memory.image, (short) (record + POINT), Curves.pointBytes(curve));
        } finally {
            ephemeral.clearKey();
            Util.arrayFillNonAtomic(fresh, (short) 0, RECORD, (byte) 0);
        }
        reply.open(Codings.TAG_WRAPPED, (short) (field + KeyWrap.OVERHEAD));
        short at = reply.length();
        // First: a refusal clears all that is counted.
        reply.setLength((short) (at + field + KeyWrap.OVERHEAD));
        wrapping.wrap(memory.image, (short) (record + SCALAR), field, reply.data, at);
        erase(reference);
    }

    /** Makes a key pair in a known slot, replacing what was there; 6581 if it could not be stored, then nothing changed. */
    void generate(byte reference, byte curve) {
        make(curve);
        put(reference);
    }

    /** A new key pair in {@link #fresh}. */
    private void make(byte curve) {
        ECPrivateKey key = curves.generate(curve, null, (short) 0, fresh, POINT);
        fresh[0] = curve;
        curves.scalar(key, curve, fresh, SCALAR);
        key.clearKey();
    }

    /** Erases the key of an occupied slot, and whom it was made for; 6581 as {@link #generate}. */
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
        // The mark of a deactivated key moves with it: activating its slot is not the administrator's word.
        memory.write(memory.image, record(pending), record(reference), RECORD);
        memory.wipe(record(pending), RECORD);
        memory.settle();
    }

    /** Appends the point to a reply. */
    void publicPoint(byte reference, Reply reply) {
        reply.append(bank(reference), (short) (record(reference) + POINT), Curves.pointBytes(curve(reference)));
    }

    /** Appends r | s; 6A80 unless the digest is as long as the hash that goes with the curve. */
    void sign(byte reference, byte[] digest, short length, Reply reply) {
        byte curve = use(reference);
        short field = Curves.fieldBytes(curve);
        if (length != field) {
            ISOException.throwIt(Codings.SW_DATA);
        }
        ECPrivateKey key = load(reference, curve);
        curves.sign(key, curve, digest, (short) 0, reply.data, reply.length());
        key.clearKey();
        reply.setLength((short) (reply.length() + 2 * field));
    }

    /** Appends Z; 6A80 for a bad point or the slot's own, 6984, 6985 for a Z of zero. */
    void agree(byte reference, byte[] peer, short at, short length, Reply reply) {
        byte curve = use(reference);
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
        if (isEphemeral(reference)) {
            Util.arrayCopyNonAtomic(fresh, (short) 0, ephemeral, record(reference), RECORD);
            Util.arrayFillNonAtomic(fresh, (short) 0, RECORD, (byte) 0);
            return;
        }
        boolean service = kind(reference) == SERVICE;
        memory.begin();
        move(reference);
        if (service) {
            memory.wipe(receiverPlace(reference), PublicKeys.RECORD);
        }
        memory.settle();
    }

    /** Moves {@link #fresh} into a stored slot, inside a change. */
    private void move(byte reference) {
        memory.write(fresh, (short) 0, record(reference), RECORD);
        Util.arrayFillNonAtomic(fresh, (short) 0, RECORD, (byte) 0);
    }

    /** Where a service key's receiver is: curve id | point. */
    private short receiverPlace(byte reference) {
        short first = (short) (memory.keysOffset() + STATIC.length * RECORD);
        return (short) (first + (reference - Codings.SERVICE_FIRST) * PublicKeys.RECORD);
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
