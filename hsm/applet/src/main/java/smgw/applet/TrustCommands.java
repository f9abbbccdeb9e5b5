package smgw.applet;

import javacard.security.MessageDigest;

/**
 * Commands about other people's keys: verify a signature or a certificate, import, know the administrator.
 *
 * <p>A certificate is given as the TBSCertificate of X.509 and its plain signature; names, dates and revocation are the gateway's affair.
 */
final class TrustCommands {
    private final Context context;
    private final Memory memory;
    private final PublicKeys publics;
    private final Tlv tlv;
    private final Certificate certificate;

    TrustCommands(Context context) {
        this.context = context;
        memory = context.memory;
        publics = context.publics;
        tlv = context.tlv;
        certificate = new Certificate(tlv, context.curves);
    }

    /** MSE:Set DST, to verify: 83 public key. An empty root may be named to put the first one there. */
    void chooseVerifying(Command command) {
        context.require(Access.USE_KEY);
        byte reference = reference(command);
        if (reference != Codings.PUBLIC_ROOT || !firstRoot()) {
            publics.curve(reference);
        }
        context.chosen[Context.VERIFYING] = reference;
    }

    private boolean firstRoot() {
        return memory.lifeCycle() == Codings.LIFE_PRE_PERSONALISED && !publics.stored(Codings.PUBLIC_ROOT);
    }

    /** 83 { reference } as the whole data field. */
    private byte reference(Command command) {
        tlv.unwrap(Codings.TAG_PUBLIC_REFERENCE, command.data, (short) 0, command.length());
        return tlv.octet(command.data);
    }

    /** 9A digest, 9E r | s, [7F49 { 80 curve, 86 point }]; 6300 if it does not hold. */
    void verifySignature(Command command) {
        context.require(Access.USE_KEY);
        byte[] data = command.data;
        short limit = command.length();
        tlv.read(data, (short) 0, limit);
        expect(Codings.TAG_DIGEST);
        short digest = tlv.start();
        short digestLength = tlv.length();
        tlv.read(data, tlv.end(), limit);
        expect(Codings.TAG_SIGNATURE);
        short signature = tlv.start();
        short length = tlv.length();
        boolean holds;
        if (tlv.end() == limit) {
            byte reference = context.chosen[Context.VERIFYING];
            Context.check(reference != Context.NOTHING, Codings.SW_CONDITIONS);
            Context.check(digestLength == Curves.fieldBytes(publics.curve(reference)), Codings.SW_DATA);
            holds = publics.verify(reference, data, digest, data, signature, length);
        } else {
            tlv.unwrap(Codings.TAG_PUBLIC_KEY, data, tlv.end(), limit);
            tlv.read(data, tlv.start(), limit);
            expect(Codings.TAG_CURVE);
            byte curve = tlv.octet(data);
            tlv.unwrap(Codings.TAG_PUBLIC_POINT, data, tlv.end(), limit);
            Context.check(CurveTables.find(curve) != null, Codings.SW_DATA);
            short field = Curves.fieldBytes(curve);
            Context.check(digestLength == field, Codings.SW_DATA);
            holds = length == (short) (2 * field)
                    && context.curves.verify(curve, data, tlv.start(), tlv.length(), data, digest, data, signature);
        }
        Context.check(holds, Codings.SW_AUTHENTICATION_FAILED);
    }

    /**
     * 7F4E TBSCertificate, 5F37 r | s, [5F20 where its key is to be kept]; 6300 if it does not hold.
     *
     * <p>The issuer is the key chosen by MSE:Set DST. Without 5F20 the key, if it is a CA's, becomes the next link of the chain.
     */
    void verifyCertificate(Command command) {
        context.require(Access.USE_KEY);
        byte[] data = command.data;
        short limit = command.length();
        tlv.read(data, (short) 0, limit);
        expect(Codings.TAG_CERTIFICATE_BODY);
        short body = tlv.start();
        short bodyEnd = tlv.end();
        tlv.read(data, bodyEnd, limit);
        expect(Codings.TAG_CERTIFICATE_SIGNATURE);
        short signature = tlv.start();
        short length = tlv.length();
        byte target = Context.NOTHING;
        if (tlv.end() != limit) {
            tlv.unwrap(Codings.TAG_CERTIFICATE_HOLDER, data, tlv.end(), limit);
            target = tlv.octet(data);
            context.require(Access.IMPORT);
            Context.check(PublicKeys.isSlot(target), Codings.SW_REFERENCE);
        }
        byte issuer = context.chosen[Context.VERIFYING];
        Context.check(issuer != Context.NOTHING, Codings.SW_CONDITIONS);
        certificate.read(data, body, bodyEnd);
        boolean first = issuer == Codings.PUBLIC_ROOT && firstRoot();
        checkPlace(issuer, target, first);
        byte by = first ? certificate.curve() : publics.curve(issuer);
        context.hash(by, data, body, (short) (bodyEnd - body));
        boolean holds;
        if (first) {
            holds = length == (short) (2 * Curves.fieldBytes(by))
                    && context.curves.verify(by, data, certificate.point(), Curves.pointBytes(by),
                            context.digest, (short) 0, data, signature);
        } else {
            holds = publics.verify(issuer, context.digest, (short) 0, data, signature, length);
        }
        Context.check(holds, Codings.SW_AUTHENTICATION_FAILED);
        if (target == Context.NOTHING) {
            publics.chainOn(certificate.curve(), data, certificate.point());
        } else {
            publics.put(target, certificate.curve(), data, certificate.point());
        }
    }

    /** Which key may be put where: a root only by the root before it, an issuer only if it is a CA. */
    private void checkPlace(byte issuer, byte target, boolean first) {
        // The first root is self-signed and goes nowhere else; a later one comes as the next.
        Context.check(first == (target == Codings.PUBLIC_ROOT), Codings.SW_CONDITIONS);
        Context.check(target != Codings.PUBLIC_ROOT_NEXT || issuer == Codings.PUBLIC_ROOT, Codings.SW_CONDITIONS);
        boolean issues = target == Context.NOTHING || target == Codings.PUBLIC_ROOT || target == Codings.PUBLIC_ROOT_NEXT;
        Context.check(!issues || certificate.isCa(), Codings.SW_DATA);
    }

    /** MSE:Set AT for EXTERNAL AUTHENTICATE: 83 the administrator's key. The next challenge is for it. */
    void chooseExternal(Command command) {
        if (!context.lockedOut()) {
            context.require(Access.ADMINISTRATOR);
        }
        byte reference = reference(command);
        Context.check(reference == Codings.PUBLIC_ADMINISTRATOR, Codings.SW_REFERENCE);
        publics.curve(reference);
        context.endAdministration();
        context.chosen[Context.EXTERNAL] = reference;
    }

    /** EXTERNAL AUTHENTICATE: r | s over application, serial number and challenge, which is used up. */
    void externalAuthenticate(Command command) {
        if (!context.lockedOut()) {
            context.require(Access.ADMINISTRATOR);
        }
        Context.noParameters(command);
        boolean challenged = context.challenged();
        byte reference = context.chosen[Context.EXTERNAL];
        context.setChallenged(false);
        context.chosen[Context.EXTERNAL] = Context.NOTHING;
        Context.check(challenged && reference != Context.NOTHING, Codings.SW_CONDITIONS);
        MessageDigest hash = context.hash(publics.curve(reference));
        hash.update(Commands.NAME, (short) 0, (short) Commands.NAME.length);
        hash.update(memory.image, memory.serialOffset(), Memory.SERIAL_BYTES);
        hash.doFinal(context.challenge, (short) 0, (short) context.challenge.length, context.digest, (short) 0);
        boolean holds = publics.verify(reference, context.digest, (short) 0, command.data, (short) 0, command.length());
        Context.check(holds, Codings.SW_AUTHENTICATION_FAILED);
        context.setAdministrator();
    }

    private void expect(short tag) {
        Context.check(tlv.tag() == tag, Codings.SW_DATA);
    }
}
