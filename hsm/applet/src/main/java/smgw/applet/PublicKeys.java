package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;

/** Public keys of others by reference: stored ones in {@link Memory}, and the last link of a chain, gone with the session. */
final class PublicKeys {
    private static final byte[] STORED = {
        Codings.PUBLIC_ROOT, Codings.PUBLIC_ROOT_NEXT, Codings.PUBLIC_ADMINISTRATOR,
        Codings.PUBLIC_PEER_1, Codings.PUBLIC_PEER_2, Codings.PUBLIC_PEER_3, Codings.PUBLIC_PEER_4
    };
    private static final byte NONE = 0;
    private static final short POINT = 1;

    /** Curve id (0: none) | point. */
    static final short RECORD = (short) (POINT + Curves.MAX_POINT);

    /** What the stored keys take of the image. */
    static final short STORED_BYTES = (short) (7 * RECORD);

    private final Memory memory;
    private final Curves curves;
    private final byte[] verified = JCSystem.makeTransientByteArray(RECORD, JCSystem.CLEAR_ON_RESET);

    PublicKeys(Memory memory, Curves curves) {
        this.memory = memory;
        this.curves = curves;
    }

    /** True if a key is kept in a slot of this reference; the last link of a chain is not kept. */
    boolean stored(byte reference) {
        short index = index(reference);
        return index >= 0 && memory.image[place(index)] != 0;
    }

    /** True for the reference of a slot that a certificate's key may be kept in. */
    static boolean isSlot(byte reference) {
        return index(reference) >= 0;
    }

    /** The curve of a key; 6A88 if there is none. */
    byte curve(byte reference) {
        byte curve = NONE;
        if (reference == Codings.PUBLIC_VERIFIED) {
            curve = verified[0];
        } else if (stored(reference)) {
            curve = memory.image[place(index(reference))];
        }
        if (curve == NONE) {
            ISOException.throwIt(Codings.SW_REFERENCE);
        }
        return curve;
    }

    /** Checks a signature r | s over a finished digest of the right length with a key; false for another length. 6A88, 6A80. */
    boolean verify(byte reference, byte[] digest, short digestAt, byte[] signature, short at, short length) {
        byte curve = curve(reference);
        if (length != (short) (2 * Curves.fieldBytes(curve))) {
            return false;
        }
        boolean kept = reference != Codings.PUBLIC_VERIFIED;
        byte[] bank = kept ? memory.image : verified;
        short point = (short) ((kept ? place(index(reference)) : 0) + POINT);
        return curves.verify(curve, bank, point, Curves.pointBytes(curve), digest, digestAt, signature, at);
    }

    /** Keeps the next link of a chain until the session ends. */
    void chainOn(byte curve, byte[] data, short point) {
        verified[0] = curve;
        Util.arrayCopyNonAtomic(data, point, verified, POINT, Curves.pointBytes(curve));
    }

    /** The last link of a chain is gone. */
    void forgetVerified() {
        Util.arrayFillNonAtomic(verified, (short) 0, RECORD, (byte) 0);
    }

    /** Keeps a key in a slot; 6581. */
    void put(byte reference, byte curve, byte[] data, short point) {
        short place = place(index(reference));
        memory.begin();
        memory.wipe(place, RECORD);
        memory.image[place] = curve;
        memory.write(data, point, (short) (place + POINT), Curves.pointBytes(curve));
        memory.settle();
    }

    /** Erases a stored key; 6581. */
    void erase(byte reference) {
        memory.begin();
        memory.wipe(place(index(reference)), RECORD);
        memory.settle();
    }

    /** The next root takes the place of the current one; 6A88 if there is none, 6581. */
    void activateRoot() {
        if (!stored(Codings.PUBLIC_ROOT_NEXT)) {
            ISOException.throwIt(Codings.SW_REFERENCE);
        }
        short next = place(index(Codings.PUBLIC_ROOT_NEXT));
        memory.begin();
        memory.write(memory.image, next, place(index(Codings.PUBLIC_ROOT)), RECORD);
        memory.wipe(next, RECORD);
        memory.settle();
    }

    /** Appends the references of the stored keys. */
    void list(Reply reply) {
        for (short i = 0; i < STORED.length; i++) {
            if (stored(STORED[i])) {
                reply.append(STORED[i]);
            }
        }
    }

    private short place(short index) {
        return (short) (memory.publicOffset() + index * RECORD);
    }

    private static short index(byte reference) {
        for (short i = 0; i < STORED.length; i++) {
            if (STORED[i] == reference) {
                return i;
            }
        }
        return -1;
    }
}
