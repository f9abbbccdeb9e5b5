package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;
import javacard.security.MessageDigest;
import javacard.security.RandomData;

/** What the commands share: memory, rights, the security environment. All but the memory ends with the session. */
final class Context {
    /** No key is chosen. */
    static final byte NOTHING = 0;

    static final short SIGNING = 0;
    static final short AGREEING = 1;
    static final short EXPORTING = 2;
    static final short INTERNAL = 3;
    static final short VERIFYING = 4;
    static final short EXTERNAL = 5;

    private static final short SECURE = 0;
    private static final short AUTHENTICATED = 1;
    private static final short CHALLENGED = 2;

    final Memory memory;
    final RandomData random;
    final Tlv tlv;
    final Curves curves = new Curves();
    final KeyStore keys;
    final PublicKeys publics;
    final FileSystem files;
    /** The security environment: references of the keys chosen. */
    final byte[] chosen = JCSystem.makeTransientByteArray((short) 6, JCSystem.CLEAR_ON_RESET);
    /** What the administrator has to sign, if {@link #challenged}. */
    final byte[] challenge = JCSystem.makeTransientByteArray(Codings.AUTHENTICATION_CHALLENGE_BYTES, JCSystem.CLEAR_ON_RESET);
    /** A finished digest. */
    final byte[] digest = JCSystem.makeTransientByteArray(Curves.MAX_FIELD, JCSystem.CLEAR_ON_RESET);

    private final byte[] flags = JCSystem.makeTransientByteArray((short) 3, JCSystem.CLEAR_ON_RESET);
    private final MessageDigest sha256 = MessageDigest.getInstance(MessageDigest.ALG_SHA_256, false);
    private final MessageDigest sha384 = MessageDigest.getInstance(MessageDigest.ALG_SHA_384, false);
    private final MessageDigest sha512 = MessageDigest.getInstance(MessageDigest.ALG_SHA_512, false);

    Context(Memory memory, RandomData random, Tlv tlv) {
        this.memory = memory;
        this.random = random;
        this.tlv = tlv;
        keys = new KeyStore(memory, curves);
        publics = new PublicKeys(memory, curves);
        files = new FileSystem(memory, keys, publics);
    }

    /** Reset, a plain command, an error of messaging, a new session: nothing volatile survives. */
    void forget() {
        endAdministration();
        Util.arrayFillNonAtomic(chosen, (short) 0, (short) chosen.length, NOTHING);
        keys.clearEphemeral();
        publics.forgetVerified();
        files.deselect();
    }

    /** Says whether the command at hand came under secure messaging. */
    void setSecure(boolean secure) {
        flags[SECURE] = (byte) (secure ? 1 : 0);
    }

    boolean secure() {
        return flags[SECURE] != 0;
    }

    /** True if the administrator is known in this session. */
    boolean administrator() {
        return flags[AUTHENTICATED] != 0;
    }

    void setAdministrator() {
        flags[AUTHENTICATED] = 1;
    }

    /** The administrator's rights and challenge are gone. */
    void endAdministration() {
        flags[AUTHENTICATED] = 0;
        setChallenged(false);
    }

    boolean challenged() {
        return flags[CHALLENGED] != 0;
    }

    void setChallenged(boolean given) {
        flags[CHALLENGED] = (byte) (given ? 1 : 0);
    }

    /** Checks a right: 6985 if this state of the life cycle does not have it, 6982 if authentication lacks. */
    void require(byte action) {
        byte needed = Access.right(memory.lifeCycle(), action);
        check(needed != Access.N || !secure(), Codings.SW_CONDITIONS);
        check(needed != Access.N && secure() && (needed != Access.G || administrator()), Codings.SW_SECURITY_STATUS);
    }

    /** True if {@link #require} would let it pass. */
    boolean allows(byte action) {
        byte needed = Access.right(memory.lifeCycle(), action);
        return needed != Access.N && secure() && (needed != Access.G || administrator());
    }

    /** True in the clear while nobody can run PACE. */
    boolean lockedOut() {
        return !secure() && (memory.pinLeft() == 0 || !memory.pinActive());
    }

    /** Hashes into {@link #digest} with the hash that goes with a curve. */
    void hash(byte curve, byte[] data, short at, short length) {
        hash(curve).doFinal(data, at, length, digest, (short) 0);
    }

    /** The hash that goes with a curve, begun anew. */
    MessageDigest hash(byte curve) {
        short field = Curves.fieldBytes(curve);
        MessageDigest hash = field == 32 ? sha256 : field == 48 ? sha384 : sha512;
        hash.reset();
        return hash;
    }

    /** Refuses with a status word unless something holds. */
    static void check(boolean condition, short sw) {
        if (!condition) {
            ISOException.throwIt(sw);
        }
    }

    /** 6A86 unless P1 and P2 are zero. */
    static void noParameters(Command command) {
        check(command.p1p2() == 0, Codings.SW_P1P2);
    }
}
