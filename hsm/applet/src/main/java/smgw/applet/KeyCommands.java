package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;

/** Commands about key pairs: choose, generate, read, sign, agree, export, and who may change which. */
final class KeyCommands {
    private static final short REFERENCE = 0;
    private static final short CURVE = 1;
    private static final short CHALLENGE_MIN = 8;

    private final Context context;
    private final KeyStore keys;
    private final Tlv tlv;
    private final byte[] template = JCSystem.makeTransientByteArray((short) 2, JCSystem.CLEAR_ON_RESET);
    /** Where in the command the receiver's 7F49 object lies. */
    private final short[] receiver = JCSystem.makeTransientShortArray((short) 2, JCSystem.CLEAR_ON_RESET);

    KeyCommands(Context context) {
        this.context = context;
        keys = context.keys;
        tlv = context.tlv;
    }

    /** MSE:Set for a key of the card; 6A88 for a key of another kind. */
    void choose(Command command) {
        context.require(Access.USE_KEY);
        short how;
        switch (command.p1p2()) {
            case Codings.P1P2_MSE_SIGN:
                how = Context.SIGNING;
                break;
            case Codings.P1P2_MSE_AGREE:
                how = Context.AGREEING;
                break;
            case Codings.P1P2_MSE_EXPORT:
                how = Context.EXPORTING;
                break;
            case Codings.P1P2_MSE_INTERNAL:
                how = Context.INTERNAL;
                break;
            default:
                ISOException.throwIt(Codings.SW_P1P2);
                return;
        }
        tlv.unwrap(Codings.TAG_KEY_REFERENCE, command.data, (short) 0, command.length());
        byte reference = tlv.octet(command.data);
        keys.require(reference);
        byte kind = KeyStore.kind(reference);
        boolean service = kind == KeyStore.SERVICE;
        boolean ephemeral = kind == KeyStore.EPHEMERAL;
        boolean fits;
        if (how == Context.EXPORTING) {
            fits = service;
        } else if (how == Context.AGREEING) {
            fits = !service;
        } else {
            fits = !ephemeral && (how == Context.SIGNING || !service);
        }
        Context.check(fits, Codings.SW_REFERENCE);
        context.chosen[how] = reference;
    }

    /** Random bytes; eight of them after MSE:Set AT external are for the administrator, who may need them in the clear. */
    void getChallenge(Command command, Reply reply) {
        boolean meant = context.chosen[Context.EXTERNAL] != Context.NOTHING && !context.challenged();
        boolean secure = context.secure();
        if (!meant || secure) {
            context.require(Access.RANDOM);
        }
        Context.noParameters(command);
        short count = command.le();
        Context.check(command.length() == 0 && command.hasLe() && count <= Codings.CHALLENGE_MAX_BYTES, Codings.SW_LENGTH);
        boolean fits = count == Codings.AUTHENTICATION_CHALLENGE_BYTES;
        Context.check(!meant || fits || secure, Codings.SW_SECURITY_STATUS);
        context.random.nextBytes(reply.data, (short) 0, count);
        reply.setLength(count);
        if (meant && fits) {
            Util.arrayCopyNonAtomic(reply.data, (short) 0, context.challenge, (short) 0, count);
            context.setChallenged(true);
        }
    }

    /** GENERATE ASYMMETRIC KEY PAIR, or the form that only reads the public key. */
    void generate(Command command, Reply reply) {
        byte how = command.p1();
        Context.check(how == Codings.P1_GENERATE_NEW || how == Codings.P1_GENERATE_REPLACE || how == Codings.P1_READ_PUBLIC,
                Codings.SW_P1P2);
        context.require(Access.USE_KEY);
        Context.check(command.p2() == 0, Codings.SW_P1P2);
        Context.check(command.hasLe(), Codings.SW_LENGTH);
        boolean reading = how == Codings.P1_READ_PUBLIC;
        boolean given = readTemplate(command, !reading);
        byte reference = template[REFERENCE];
        if (!reading) {
            make(command.data, reference, how == Codings.P1_GENERATE_REPLACE, given);
        }
        keys.require(reference);
        byte curve = keys.curve(reference);
        short point = Curves.pointBytes(curve);
        reply.open(Codings.TAG_PUBLIC_KEY, (short) (3 + Reply.overhead(Codings.TAG_PUBLIC_POINT, point) + point));
        reply.open(Codings.TAG_CURVE, (short) 1);
        reply.append(curve);
        reply.open(Codings.TAG_PUBLIC_POINT, point);
        keys.publicPoint(reference, reply);
    }

    /** B6 { 84 reference [, 80 curve [, 7F49 receiver]] } in any order; true if there is a receiver. */
    private boolean readTemplate(Command command, boolean withCurve) {
        byte[] data = command.data;
        boolean named = false;
        boolean described = false;
        boolean given = false;
        tlv.unwrap(Codings.KEY_TEMPLATE, data, (short) 0, command.length());
        short limit = tlv.end();
        for (short at = tlv.start(); at < limit; at = tlv.end()) {
            tlv.read(data, at, limit);
            if (tlv.tag() == Codings.TAG_KEY_REFERENCE && !named) {
                named = true;
                template[REFERENCE] = tlv.octet(data);
            } else if (tlv.tag() == Codings.TAG_CURVE && !described) {
                described = true;
                template[CURVE] = tlv.octet(data);
            } else if (tlv.tag() == Codings.TAG_PUBLIC_KEY && withCurve && !given) {
                given = true;
                receiver[0] = tlv.start();
                receiver[1] = tlv.end();
            } else {
                ISOException.throwIt(Codings.SW_DATA);
            }
        }
        Context.check(named && described == withCurve, Codings.SW_DATA);
        return given;
    }

    private void make(byte[] data, byte reference, boolean replacing, boolean given) {
        byte kind = KeyStore.kind(reference);
        requireGeneration(kind, reference, replacing);
        byte curve = template[CURVE];
        Context.check(CurveTables.find(curve) != null, Codings.SW_DATA);
        boolean service = kind == KeyStore.SERVICE;
        Context.check(service == given, Codings.SW_DATA);
        if (!service) {
            Context.check(replacing || !keys.occupied(reference), Codings.SW_EXISTS);
            keys.generate(reference, curve);
            return;
        }
        // The receiver's curve is no weaker than the key's.
        tlv.read(data, receiver[0], receiver[1]);
        Context.check(tlv.tag() == Codings.TAG_CURVE, Codings.SW_DATA);
        byte bound = tlv.octet(data);
        tlv.unwrap(Codings.TAG_PUBLIC_POINT, data, tlv.end(), receiver[1]);
        short point = tlv.start();
        Context.check(CurveTables.find(bound) != null, Codings.SW_DATA);
        context.curves.checkPoint(bound, data, point, tlv.length());
        Context.check(Curves.fieldBytes(bound) >= Curves.fieldBytes(curve), Codings.SW_DATA);
        Context.check(!keys.occupied(reference), Codings.SW_EXISTS);
        keys.generateFor(reference, curve, bound, data, point);
    }

    private void requireGeneration(byte kind, byte reference, boolean replacing) {
        if (kind == KeyStore.GATEWAY && KeyStore.isPending(reference)) {
            context.require(Access.GENERATE_PENDING);
        } else if (kind == KeyStore.GATEWAY) {
            if (!context.allows(Access.GENERATE)) {
                // Who lacks the administrator hears that first, in every state.
                context.require(Access.MANAGE_KEYS);
            }
            context.require(Access.GENERATE);
        } else if (kind == KeyStore.STORE) {
            context.require(Access.STORE_KEY);
            if (replacing && keys.occupied(reference)) {
                context.require(Access.MANAGE_KEYS);
            }
        } else {
            context.require(right(kind));
        }
    }

    /** What activating or deleting a key of a kind needs. */
    private static byte right(byte kind) {
        switch (kind) {
            case KeyStore.NET:
                return Access.NET_KEY;
            case KeyStore.SERVICE:
                return Access.SERVICE_KEY;
            case KeyStore.EPHEMERAL:
                return Access.EPHEMERAL;
            default:
                return Access.MANAGE_KEYS;
        }
    }

    /** PSO: COMPUTE DIGITAL SIGNATURE over a digest. */
    void sign(Command command, Reply reply) {
        context.require(Access.USE_KEY);
        byte reference = chosen(Context.SIGNING);
        Context.check(command.hasLe(), Codings.SW_LENGTH);
        keys.sign(reference, command.data, command.length(), reply);
    }

    /** INTERNAL AUTHENTICATE: a signature over the hash of the other side's challenge. */
    void internalAuthenticate(Command command, Reply reply) {
        context.require(Access.USE_KEY);
        Context.noParameters(command);
        byte reference = chosen(Context.INTERNAL);
        short length = command.length();
        Context.check(length >= CHALLENGE_MIN && length <= Codings.CHALLENGE_MAX_BYTES && command.hasLe(), Codings.SW_LENGTH);
        byte curve = keys.curve(reference);
        context.hash(curve, command.data, (short) 0, length);
        keys.sign(reference, context.digest, Curves.fieldBytes(curve), reply);
    }

    /** Key agreement; an ephemeral key is used up, whatever comes of it. */
    void agree(Command command, Reply reply) {
        byte reference = chosen(Context.AGREEING);
        try {
            keys.require(reference);
            Context.check(command.hasLe(), Codings.SW_LENGTH);
            byte[] data = command.data;
            tlv.unwrap(Codings.TAG_AGREE, data, (short) 0, command.length());
            tlv.unwrap(Codings.TAG_PEER_POINT, data, tlv.start(), tlv.end());
            short field = Curves.fieldBytes(keys.curve(reference));
            reply.open(Codings.TAG_AGREE, (short) (Reply.overhead(Codings.TAG_SHARED_SECRET, field) + field));
            reply.open(Codings.TAG_SHARED_SECRET, field);
            keys.agree(reference, data, tlv.start(), tlv.length(), reply);
        } finally {
            if (KeyStore.isEphemeral(reference)) {
                keys.erase(reference);
                context.chosen[Context.AGREEING] = Context.NOTHING;
            }
        }
    }

    /** PSO: ENCIPHER of the chosen service key for its receiver; it is erased, durably, before the answer. */
    void export(Command command, Reply reply) {
        context.require(Access.SERVICE_KEY);
        byte reference = chosen(Context.EXPORTING);
        Context.check(command.length() == 0 && command.hasLe(), Codings.SW_LENGTH);
        keys.require(reference);
        keys.export(reference, reply);
        context.chosen[Context.EXPORTING] = Context.NOTHING;
    }

    /** A pending key takes the place of the current one, which is erased. */
    void activatePending(byte reference) {
        byte kind = KeyStore.kind(reference);
        Context.check(!KeyStore.isPending(reference) && (kind == KeyStore.GATEWAY || kind == KeyStore.NET), Codings.SW_REFERENCE);
        context.require(right(kind));
        keys.activate(reference);
    }

    /** Makes a stored key unusable, or usable again. */
    void suspend(byte reference, boolean active) {
        context.require(Access.SUSPEND);
        keys.suspend(reference, active);
    }

    /** DELETE a key pair. */
    void delete(byte reference) {
        keys.require(reference);
        context.require(right(KeyStore.kind(reference)));
        keys.erase(reference);
    }

    private byte chosen(short how) {
        byte reference = context.chosen[how];
        Context.check(reference != Context.NOTHING, Codings.SW_CONDITIONS);
        return reference;
    }
}
