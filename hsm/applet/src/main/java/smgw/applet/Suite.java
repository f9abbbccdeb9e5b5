package smgw.applet;

import javacard.framework.JCSystem;
import javacard.framework.Util;
import javacard.security.AESKey;
import javacard.security.KeyBuilder;
import javacard.security.MessageDigest;

/** Keys of one id-PACE-ECDH-GM-AES-CBC-CMAC-*: AES-128, 192 or 256 and the hash of the KDF (TR-03110-3 v2.2, A.2.3). */
final class Suite {
    static final byte ENCRYPTION = 1;
    static final byte MAC = 2;
    static final byte PASSWORD = 3;

    /** Value octets of the OID without its last arc. */
    static final byte[] PACE_ECDH_GM = {0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x04, 0x02};

    /** Last arc of the OID: 2, 3, 4. */
    final byte arc;

    private final short keyBytes;
    private final AESKey encryption;
    private final AESKey mac;
    private final AESKey password;
    private final MessageDigest digest;
    private final byte[] scratch = JCSystem.makeTransientByteArray((short) 32, JCSystem.CLEAR_ON_RESET);

    Suite(byte arc) {
        this.arc = arc;
        keyBytes = (short) (8 * arc);
        encryption = newKey();
        mac = newKey();
        password = newKey();
        digest = MessageDigest.getInstance(arc == 2 ? MessageDigest.ALG_SHA : MessageDigest.ALG_SHA_256, false);
    }

    private AESKey newKey() {
        return (AESKey) KeyBuilder.buildKey(KeyBuilder.TYPE_AES_TRANSIENT_RESET, (short) (8 * keyBytes), false);
    }

    AESKey key(byte purpose) {
        return purpose == ENCRYPTION ? encryption : purpose == MAC ? mac : password;
    }

    /** KDF(K, purpose): K is {@code length} octets of {@code secret}. */
    void derive(byte purpose, byte[] secret, short offset, short length) {
        digest.reset();
        digest.update(secret, offset, length);
        Util.arrayFillNonAtomic(scratch, (short) 0, (short) 3, (byte) 0);
        scratch[3] = purpose;
        digest.doFinal(scratch, (short) 0, (short) 4, scratch, (short) 0);
        key(purpose).setKey(scratch, (short) 0);
        Util.arrayFillNonAtomic(scratch, (short) 0, (short) scratch.length, (byte) 0);
    }

    void clear() {
        encryption.clearKey();
        mac.clearKey();
        password.clearKey();
    }
}
