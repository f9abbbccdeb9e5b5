package smgw.applet;

import javacard.framework.JCSystem;
import javacard.framework.Util;
import javacard.security.AESKey;
import javacard.security.KeyBuilder;
import javacard.security.MessageDigest;
import javacardx.crypto.Cipher;

/** AES key wrap (RFC 3394, 2.2.1) with AES-256, under a key of X9.63-KDF with SHA-256 (ANSI X9.63, one block). */
final class KeyWrap {
    /** What wrapping adds to a key. */
    static final short OVERHEAD = 8;

    private static final short HALF = 8;
    private static final short KEY_BYTES = 32;
    private static final byte[] FIRST_BLOCK = {0, 0, 0, 1};

    private final MessageDigest digest = MessageDigest.getInstance(MessageDigest.ALG_SHA_256, false);
    private final AESKey key = (AESKey) KeyBuilder.buildKey(KeyBuilder.TYPE_AES_TRANSIENT_RESET, KeyBuilder.LENGTH_AES_256, false);
    private final Cipher ecb = Cipher.getInstance(Cipher.ALG_AES_BLOCK_128_ECB_NOPAD, false);
    private final byte[] derived = JCSystem.makeTransientByteArray(KEY_BYTES, JCSystem.CLEAR_ON_RESET);
    private final byte[] block = JCSystem.makeTransientByteArray(Messaging.BLOCK, JCSystem.CLEAR_ON_RESET);

    /** Makes the wrapping key: SHA-256(Z | 00000001 | info). */
    void derive(byte[] secret, short at, short length, byte[] info, short infoAt, short infoLength) {
        digest.reset();
        digest.update(secret, at, length);
        digest.update(FIRST_BLOCK, (short) 0, (short) FIRST_BLOCK.length);
        digest.doFinal(info, infoAt, infoLength, derived, (short) 0);
        use(derived);
        Util.arrayFillNonAtomic(derived, (short) 0, KEY_BYTES, (byte) 0);
    }

    /** Takes a wrapping key of 32 octets. */
    void use(byte[] wrapping) {
        key.setKey(wrapping, (short) 0);
    }

    /** Wraps {@code length} octets, a multiple of 8 and no less than 16, into {@code out}; the wrapping key is gone afterwards. */
    void wrap(byte[] plain, short at, short length, byte[] out, short offset) {
        short halves = (short) (length / HALF);
        Util.arrayCopyNonAtomic(plain, at, out, (short) (offset + HALF), length);
        Util.arrayFillNonAtomic(block, (short) 0, HALF, (byte) 0xA6);
        ecb.init(key, Cipher.MODE_ENCRYPT);
        short step = 0;
        for (short round = 0; round < 6; round++) {
            for (short i = 1; i <= halves; i++) {
                short half = (short) (offset + i * HALF);
                Util.arrayCopyNonAtomic(out, half, block, HALF, HALF);
                ecb.doFinal(block, (short) 0, Messaging.BLOCK, block, (short) 0);
                step++;
                // At most 48 steps: only the last octet of the counter is ever used.
                block[(short) (HALF - 1)] ^= (byte) step;
                Util.arrayCopyNonAtomic(block, HALF, out, half, HALF);
            }
        }
        Util.arrayCopyNonAtomic(block, (short) 0, out, offset, HALF);
        Util.arrayFillNonAtomic(block, (short) 0, Messaging.BLOCK, (byte) 0);
        key.clearKey();
    }
}
