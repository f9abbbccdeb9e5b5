package smgw.applet;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import java.math.BigInteger;
import java.util.Arrays;
import javacard.security.ECPrivateKey;
import org.junit.jupiter.api.Test;

/** Nonces of signatures: fresh each time, and no private key can be had from two signatures. */
class SignatureNonceTest {
    private static final byte CURVE = Codings.CURVE_BRAINPOOL_P256;
    private static final int FIELD = 32;

    private final Curves curves = new Curves();

    private byte[] sign(ECPrivateKey key, byte[] digest) {
        byte[] signature = new byte[2 * FIELD];
        curves.sign(key, CURVE, digest, (short) 0, signature, (short) 0);
        return signature;
    }

    private static BigInteger number(byte[] bytes, int from) {
        return new BigInteger(1, Arrays.copyOfRange(bytes, from, from + FIELD));
    }

    private static BigInteger order() {
        byte[] table = CurveTables.find(CURVE);
        return number(table, table.length - FIELD);
    }

    /** The private key, if both signatures were made with one nonce: k = (e1 - e2) / (s1 - s2), d = (k s1 - e1) / r1. */
    private static BigInteger recover(byte[] one, byte[] two, byte[] first, byte[] second) {
        BigInteger n = order();
        BigInteger k = number(first, 0).subtract(number(second, 0))
                .multiply(number(one, FIELD).subtract(number(two, FIELD)).modInverse(n)).mod(n);
        return k.multiply(number(one, FIELD)).subtract(number(first, 0))
                .multiply(number(one, 0).modInverse(n)).mod(n);
    }

    private static byte[] digest(int filler) {
        byte[] digest = new byte[FIELD];
        Arrays.fill(digest, (byte) filler);
        return digest;
    }

    @Test
    void theSameDigestIsSignedDifferently() {
        ECPrivateKey key = curves.generate(CURVE, null, (short) 0, new byte[2 * FIELD + 1], (short) 0);
        byte[] one = sign(key, digest(1));
        byte[] two = sign(key, digest(1));
        assertNotEquals(number(one, 0), number(two, 0), "r repeats: the nonce does");
        assertNotEquals(number(one, FIELD), number(two, FIELD));
    }

    @Test
    void noPrivateKeyCanBeHadFromTwoSignatures() {
        ECPrivateKey key = curves.generate(CURVE, null, (short) 0, new byte[2 * FIELD + 1], (short) 0);
        byte[] scalar = new byte[FIELD];
        curves.scalar(key, CURVE, scalar, (short) 0);
        BigInteger recovered = recover(sign(key, digest(1)), sign(key, digest(2)), digest(1), digest(2));
        assertNotEquals(new BigInteger(1, scalar), recovered);
    }

    @Test
    void theAttackWorksWhereANonceRepeats() {
        BigInteger n = order();
        BigInteger d = BigInteger.valueOf(0x1234567);
        BigInteger k = BigInteger.valueOf(0x7654321);
        BigInteger r = BigInteger.valueOf(99);
        byte[][] signatures = new byte[2][];
        for (int i = 0; i < 2; i++) {
            BigInteger s = k.modInverse(n).multiply(number(digest(i + 1), 0).add(r.multiply(d))).mod(n);
            byte[] both = new byte[2 * FIELD];
            both[FIELD - 1] = 99;
            byte[] tail = s.toByteArray();
            int skip = Math.max(0, tail.length - FIELD);
            System.arraycopy(tail, skip, both, 2 * FIELD - (tail.length - skip), tail.length - skip);
            signatures[i] = both;
        }
        assertEquals(d, recover(signatures[0], signatures[1], digest(1), digest(2)));
    }

    @Test
    void twoKeysDiffer() {
        byte[] one = new byte[2 * FIELD + 1];
        byte[] two = new byte[2 * FIELD + 1];
        curves.generate(CURVE, null, (short) 0, one, (short) 0);
        new Curves().generate(CURVE, null, (short) 0, two, (short) 0);
        assertFalse(Arrays.equals(one, two));
    }

    @Test
    void aScalarThatIsShortIsPaddedAndStillRight() {
        // SK_PICC of BSI's worked example has 31 bytes; a reused key object would keep the tail of the scalar before.
        byte[] full = new byte[FIELD];
        Arrays.fill(full, (byte) 0x5A);
        byte[] brief = new byte[FIELD];
        brief[FIELD - 1] = 1;
        byte[] base = Arrays.copyOfRange(CurveTables.find(CURVE), 3 * FIELD, 5 * FIELD + 1);
        byte[] out = new byte[FIELD];
        curves.agree(curves.load(CURVE, full, (short) 0, (short) FIELD), CURVE, base, (short) 0, (short) base.length, out, (short) 0);
        assertFalse(Arrays.equals(Arrays.copyOfRange(base, 1, FIELD + 1), out));
        curves.agree(curves.load(CURVE, brief, (short) (FIELD - 1), (short) 1), CURVE, base, (short) 0, (short) base.length, out, (short) 0);
        assertEquals(new BigInteger(1, Arrays.copyOfRange(base, 1, FIELD + 1)), new BigInteger(1, out));
        byte[] again = new byte[FIELD];
        curves.scalar(curves.load(CURVE, brief, (short) (FIELD - 1), (short) 1), CURVE, again, (short) 0);
        assertEquals(BigInteger.ONE, new BigInteger(1, again));
    }
}
