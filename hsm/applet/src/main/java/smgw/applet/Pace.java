package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;
import javacard.security.ECPrivateKey;
import javacard.security.RandomData;

/**
 * PACE, the card's end: one step a GENERAL AUTHENTICATE (TR-03110-3 v2.2, A.3, B.14; generic mapping on ECDH).
 *
 * <p>A try of the PIN is used up, durably, before the nonce leaves. A run that was refused anything is over.
 */
final class Pace {
    private static final byte IDLE = 0;
    private static final byte NONCE = 1;
    private static final byte MAP = 2;
    private static final byte AGREE = 3;
    private static final byte CONFIRM = 4;

    private static final short STEP = 0;
    private static final short CURVE = 1;
    private static final short SUITE = 2;

    private final Memory memory;
    private final Curves curves;
    private final Messaging messaging;
    private final RandomData random;
    private final Tlv tlv;
    private final Suite[] suites = {new Suite((byte) 2), new Suite((byte) 3), new Suite((byte) 4)};
    private final byte[] state = JCSystem.makeTransientByteArray((short) 3, JCSystem.CLEAR_ON_RESET);
    private final byte[] nonce = JCSystem.makeTransientByteArray(Messaging.BLOCK, JCSystem.CLEAR_ON_RESET);
    private final byte[] base = newPoint();
    private final byte[] own = newPoint();
    private final byte[] peer = newPoint();
    /** 7F49 { 06 OID, 86 point } at its longest, and shared secrets. */
    private final byte[] message = JCSystem.makeTransientByteArray((short) 160, JCSystem.CLEAR_ON_RESET);
    private final byte[] token = JCSystem.makeTransientByteArray(Messaging.MAC_BYTES, JCSystem.CLEAR_ON_RESET);

    Pace(Memory memory, Curves curves, Messaging messaging, RandomData random, Tlv tlv) {
        this.memory = memory;
        this.curves = curves;
        this.messaging = messaging;
        this.random = random;
        this.tlv = tlv;
    }

    private static byte[] newPoint() {
        return JCSystem.makeTransientByteArray(Curves.MAX_POINT, JCSystem.CLEAR_ON_RESET);
    }

    boolean running() {
        return state[STEP] != IDLE;
    }

    /** Forgets the run. */
    void abort() {
        state[STEP] = IDLE;
        Util.arrayFillNonAtomic(nonce, (short) 0, (short) nonce.length, (byte) 0);
        Util.arrayFillNonAtomic(base, (short) 0, (short) base.length, (byte) 0);
        Util.arrayFillNonAtomic(message, (short) 0, (short) message.length, (byte) 0);
    }

    /** MSE:Set AT: chooses algorithm, password and curve. 6A80, 6A88; answers 63CX if tries are missing, 6283 for a PIN that is off. */
    short select(byte[] data, short length) {
        byte suite = -1;
        byte password = 0;
        boolean named = false;
        byte curve = Codings.CURVE_BRAINPOOL_P256;
        boolean chosen = false;
        boolean algorithm = false;
        for (short at = 0; at < length; at = tlv.end()) {
            tlv.read(data, at, length);
            switch (tlv.tag()) {
                case 0x80:
                    once(algorithm);
                    algorithm = true;
                    suite = suite(data);
                    break;
                case 0x83:
                    once(named);
                    named = true;
                    // A reference of another length is told from an unknown one after the algorithm was looked at.
                    password = tlv.length() == 1 ? data[tlv.start()] : -1;
                    break;
                case 0x84:
                    once(chosen);
                    chosen = true;
                    curve = tlv.length() == 1 ? data[tlv.start()] : -1;
                    break;
                default:
                    ISOException.throwIt(Codings.SW_DATA);
            }
        }
        if (!algorithm || !named || suite < 0 || password == -1) {
            ISOException.throwIt(Codings.SW_DATA);
        }
        if (password != Codings.PASSWORD_REFERENCE) {
            ISOException.throwIt(Codings.SW_REFERENCE);
        }
        if (curve == -1) {
            ISOException.throwIt(Codings.SW_DATA);
        }
        if (CurveTables.find(curve) == null) {
            ISOException.throwIt(Codings.SW_REFERENCE);
        }
        state[CURVE] = curve;
        state[SUITE] = suite;
        state[STEP] = NONCE;
        if (!memory.pinActive()) {
            return Codings.SW_DEACTIVATED;
        }
        return memory.pinUntouched() ? Codings.SW_OK : (short) (Codings.SW_COUNTER | memory.pinLeft());
    }

    private static void once(boolean seen) {
        if (seen) {
            ISOException.throwIt(Codings.SW_DATA);
        }
    }

    /** Index of the suite whose OID the object read last holds, or -1. */
    private byte suite(byte[] data) {
        short prefix = (short) Suite.PACE_ECDH_GM.length;
        if (tlv.length() != (short) (prefix + 1)
                || Util.arrayCompare(data, tlv.start(), Suite.PACE_ECDH_GM, (short) 0, prefix) != 0) {
            return -1;
        }
        byte arc = data[(short) (tlv.start() + prefix)];
        return arc >= 2 && arc <= 4 ? (byte) (arc - 2) : -1;
    }

    /**
     * Takes the data of one step and builds the answer. When the last step was right, secure messaging has begun.
     *
     * @param chained whether the command's chaining bit is set
     */
    void answer(byte[] data, short length, boolean chained, Reply reply) {
        byte step = state[STEP];
        // Refused until proven otherwise.
        state[STEP] = IDLE;
        boolean ended = false;
        try {
            if (chained != (step != CONFIRM)) {
                ISOException.throwIt(Codings.SW_CHAINING);
            }
            tlv.unwrap(Codings.TAG_AGREE, data, (short) 0, length);
            short at = tlv.start();
            short end = tlv.end();
            if (step == NONCE) {
                if (at != end) {
                    ISOException.throwIt(Codings.SW_DATA);
                }
                giveNonce(reply);
            } else {
                tlv.unwrap((short) (0x81 + 2 * (step - MAP)), data, at, end);
                if (step == MAP) {
                    map(data, tlv.start(), tlv.length(), reply);
                } else if (step == AGREE) {
                    agree(data, tlv.start(), tlv.length(), reply);
                } else {
                    confirm(data, tlv.start(), tlv.length(), reply);
                }
            }
            ended = true;
        } finally {
            if (!ended || step == CONFIRM) {
                abort();
            } else {
                state[STEP] = (byte) (step + 1);
            }
        }
    }

    private Suite keys() {
        return suites[state[SUITE]];
    }

    private void giveNonce(Reply reply) {
        if (!memory.pinActive()) {
            ISOException.throwIt(Codings.SW_UNUSABLE);
        }
        if (memory.pinLeft() == 0) {
            ISOException.throwIt(Codings.SW_BLOCKED);
        }
        random.nextBytes(nonce, (short) 0, Messaging.BLOCK);
        memory.useTry();
        Suite keys = keys();
        keys.derive(Suite.PASSWORD, memory.image, memory.pinOffset(), memory.pinLength());
        open(reply, (short) 0x80, Messaging.BLOCK);
        messaging.encryptNonce(keys, nonce, reply.data, reply.length());
        reply.setLength((short) (reply.length() + Messaging.BLOCK));
        keys.clear();
    }

    private void map(byte[] data, short at, short length, Reply reply) {
        byte curve = state[CURVE];
        ECPrivateKey secret = curves.generate(curve, null, (short) 0, own, (short) 0);
        differs(data, at, length);
        curves.map(secret, curve, nonce, data, at, length, base);
        secret.clearKey();
        open(reply, (short) 0x82, length);
        reply.append(own, (short) 0, length);
    }

    private void agree(byte[] data, short at, short length, Reply reply) {
        byte curve = state[CURVE];
        short field = Curves.fieldBytes(curve);
        ECPrivateKey secret = curves.generate(curve, base, (short) 0, own, (short) 0);
        differs(data, at, length);
        curves.agree(secret, curve, data, at, length, message, (short) 0);
        secret.clearKey();
        Suite keys = keys();
        keys.derive(Suite.ENCRYPTION, message, (short) 0, field);
        keys.derive(Suite.MAC, message, (short) 0, field);
        Util.arrayCopyNonAtomic(data, at, peer, (short) 0, length);
        open(reply, (short) 0x84, length);
        reply.append(own, (short) 0, length);
    }

    private void confirm(byte[] data, short at, short length, Reply reply) {
        Suite keys = keys();
        // The terminal's token covers the point it received, which is ours.
        token(keys, own);
        if (length != Messaging.MAC_BYTES || !Messaging.equal(data, at, token, length)) {
            keys.clear();
            byte left = memory.pinLeft();
            ISOException.throwIt(left == 0 ? Codings.SW_BLOCKED : (short) (Codings.SW_COUNTER | left));
        }
        memory.restoreTries();
        token(keys, peer);
        open(reply, (short) 0x86, Messaging.MAC_BYTES);
        reply.append(token, (short) 0, Messaging.MAC_BYTES);
        messaging.start(keys);
    }

    private void token(Suite keys, byte[] point) {
        short length = Curves.pointBytes(state[CURVE]);
        short oid = (short) (Suite.PACE_ECDH_GM.length + 1);
        short inner = (short) (2 + oid + Reply.overhead((short) 0x86, length) + length);
        short at = 0;
        message[at++] = 0x7F;
        message[at++] = 0x49;
        at = lengthOctets(at, inner);
        message[at++] = 0x06;
        message[at++] = (byte) oid;
        at = Util.arrayCopyNonAtomic(Suite.PACE_ECDH_GM, (short) 0, message, at, (short) (oid - 1));
        message[at++] = keys.arc;
        message[at++] = (byte) 0x86;
        at = lengthOctets(at, length);
        at = Util.arrayCopyNonAtomic(point, (short) 0, message, at, length);
        messaging.token(keys, message, at, token);
    }

    private short lengthOctets(short at, short length) {
        if (length >= 0x80) {
            message[at++] = (byte) 0x81;
        }
        message[at++] = (byte) length;
        return at;
    }

    /** 6A80 if the point that came is the one just made. */
    private void differs(byte[] data, short at, short length) {
        if (length == Curves.pointBytes(state[CURVE]) && Util.arrayCompare(data, at, own, (short) 0, length) == 0) {
            ISOException.throwIt(Codings.SW_DATA);
        }
    }

    private static void open(Reply reply, short tag, short length) {
        reply.open(Codings.TAG_AGREE, (short) (Reply.overhead(tag, length) + length));
        reply.open(tag, length);
    }
}
