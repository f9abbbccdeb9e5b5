package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;
import javacard.security.CryptoException;
import javacard.security.ECKey;
import javacard.security.ECPrivateKey;
import javacard.security.ECPublicKey;
import javacard.security.KeyAgreement;
import javacard.security.KeyBuilder;
import javacard.security.KeyPair;
import javacard.security.Signature;

/**
 * Elliptic-curve operations of the platform, on explicit domain parameters.
 *
 * <p>Key objects are made afresh for each use: a reused object of jCardSim 3.0.6.0 keeps the tail of a longer scalar. On a card with
 * little memory they would be pooled here, and nowhere else. Points from outside must be uncompressed and of the right length; that they
 * lie on the curve is checked by the platform's key agreement.
 */
final class Curves {
    /** Length of the longest coordinate. */
    static final short MAX_FIELD = 64;

    static final short MAX_POINT = (short) (2 * MAX_FIELD + 1);

    private static final byte[] ONE = {1};

    private final KeyAgreement agreeX = KeyAgreement.getInstance(KeyAgreement.ALG_EC_SVDP_DH_PLAIN, false);
    private final KeyAgreement agreePoint = KeyAgreement.getInstance(KeyAgreement.ALG_EC_SVDP_DH_PLAIN_XY, false);
    private final KeyAgreement mapNonce = KeyAgreement.getInstance(KeyAgreement.ALG_EC_PACE_GM, false);
    private final Signature sign256 = Signature.getInstance(Signature.ALG_ECDSA_SHA_256, false);
    private final Signature sign384 = Signature.getInstance(Signature.ALG_ECDSA_SHA_384, false);
    private final Signature sign512 = Signature.getInstance(Signature.ALG_ECDSA_SHA_512, false);
    private final byte[] wide = JCSystem.makeTransientByteArray((short) 66, JCSystem.CLEAR_ON_RESET);
    private final byte[] der = JCSystem.makeTransientByteArray((short) 160, JCSystem.CLEAR_ON_RESET);

    /** Length of a coordinate, and of the order, of a curve known to {@link CurveTables}. */
    static short fieldBytes(byte curve) {
        return (short) ((short) (CurveTables.find(curve).length - 1) / 6);
    }

    static short pointBytes(byte curve) {
        return (short) (2 * fieldBytes(curve) + 1);
    }

    /**
     * Makes a key pair.
     *
     * @param base generator to use in place of the standard one, or null
     * @return the private key; its scalar can be had by {@link #scalar}
     */
    ECPrivateKey generate(byte curve, byte[] base, short baseOffset, byte[] point, short pointOffset) {
        ECPrivateKey secret = newPrivate(curve, base, baseOffset);
        ECPublicKey open = (ECPublicKey) KeyBuilder.buildKey(KeyBuilder.TYPE_EC_FP_PUBLIC, keyBits(curve), false);
        describe(open, curve, base, baseOffset);
        new KeyPair(open, secret).genKeyPair();
        if (open.getW(point, pointOffset) != pointBytes(curve)) {
            ISOException.throwIt(Codings.SW_INTERNAL);
        }
        return secret;
    }

    /** Writes the scalar of a key at full field length: the platform leaves leading zeros away. */
    void scalar(ECPrivateKey key, byte curve, byte[] out, short offset) {
        short field = fieldBytes(curve);
        short length = key.getS(der, (short) 0);
        Util.arrayFillNonAtomic(out, offset, field, (byte) 0);
        Util.arrayCopyNonAtomic(der, (short) 0, out, (short) (offset + field - length), length);
        Util.arrayFillNonAtomic(der, (short) 0, length, (byte) 0);
    }

    /** A key object for a stored scalar. */
    ECPrivateKey load(byte curve, byte[] scalar, short offset, short length) {
        ECPrivateKey key = newPrivate(curve, null, (short) 0);
        key.setS(scalar, offset, length);
        return key;
    }

    /** ECKA: writes the x-coordinate (TR-03111 v2.1, 4.3); 6A80 for a bad point. */
    void agree(ECPrivateKey key, byte curve, byte[] peer, short at, short length, byte[] out, short offset) {
        check(curve, peer, at, length);
        if (run(agreeX, key, peer, at, length, out, offset) != fieldBytes(curve)) {
            ISOException.throwIt(Codings.SW_DATA);
        }
    }

    /** Generic mapping (TR-03110-2 v2.2, B.3.4.1): writes nonce * G + secret * peer; 6A80 for a bad point or result. */
    void map(ECPrivateKey secret, byte curve, byte[] nonce, byte[] peer, short at, short length, byte[] out) {
        check(curve, peer, at, length);
        short whole = pointBytes(curve);
        if (run(agreePoint, secret, peer, at, length, out, (short) 0) != whole) {
            ISOException.throwIt(Codings.SW_DATA);
        }
        ECPrivateKey factor = load(curve, nonce, (short) 0, (short) nonce.length);
        short mapped = run(mapNonce, factor, out, (short) 0, whole, der, (short) 0);
        factor.clearKey();
        if (mapped != whole) {
            ISOException.throwIt(Codings.SW_DATA);
        }
        Util.arrayCopyNonAtomic(der, (short) 0, out, (short) 0, whole);
    }

    /** ECDSA over a finished digest of field length: writes r | s, each at field length (TR-03111 v2.1, 5.2). */
    void sign(ECPrivateKey key, byte curve, byte[] digest, short at, byte[] out, short offset) {
        short field = fieldBytes(curve);
        Signature signer = field == 32 ? sign256 : field == 48 ? sign384 : sign512;
        signer.init(key, Signature.MODE_SIGN);
        short length = signer.signPreComputedHash(digest, at, field, der, (short) 0);
        // SEQUENCE { INTEGER r, INTEGER s }; the outer length takes two octets on the longest curve only.
        short next = (short) (der[1] == (byte) 0x81 ? 3 : 2);
        next = integer(next, length, field, out, offset);
        next = integer(next, length, field, out, (short) (offset + field));
        if (next != length) {
            ISOException.throwIt(Codings.SW_INTERNAL);
        }
    }

    /** Checks r | s over a finished digest, both of field length; 6A80 for a bad point. */
    boolean verify(
            byte curve, byte[] peer, short point, short pointLength, byte[] digest, short digestAt, byte[] signature, short signatureAt) {
        check(curve, peer, point, pointLength);
        short field = fieldBytes(curve);
        Signature judge = field == 32 ? sign256 : field == 48 ? sign384 : sign512;
        ECPublicKey key = (ECPublicKey) KeyBuilder.buildKey(KeyBuilder.TYPE_EC_FP_PUBLIC, keyBits(curve), false);
        describe(key, curve, null, (short) 0);
        short length = sequence(signature, signatureAt, field);
        try {
            key.setW(peer, point, pointLength);
            judge.init(key, Signature.MODE_VERIFY);
            return judge.verifyPreComputedHash(digest, digestAt, field, der, (short) 0, length);
        } catch (CryptoException error) {
            ISOException.throwIt(Codings.SW_DATA);
        } catch (IllegalArgumentException error) {
            // How jCardSim says that a point is not on its curve.
            ISOException.throwIt(Codings.SW_DATA);
        }
        return false;
    }

    /** 6A80 unless this is a point of the curve: the platform's agreement judges, with the factor one. */
    void checkPoint(byte curve, byte[] peer, short point, short pointLength) {
        ECPrivateKey one = load(curve, ONE, (short) 0, (short) 1);
        agree(one, curve, peer, point, pointLength, der, (short) 0);
    }

    /** Writes SEQUENCE { INTEGER r, INTEGER s } into the DER buffer; returns its length. */
    private short sequence(byte[] plain, short at, short field) {
        short end = number(plain, at, field, (short) 3);
        end = number(plain, (short) (at + field), field, end);
        short content = (short) (end - 3);
        if (content < 0x80) {
            Util.arrayCopyNonAtomic(der, (short) 3, der, (short) 2, content);
            der[1] = (byte) content;
        } else {
            der[1] = (byte) 0x81;
            der[2] = (byte) content;
        }
        der[0] = 0x30;
        return content < 0x80 ? (short) (content + 2) : end;
    }

    /** Writes an unsigned number as INTEGER into the DER buffer; returns the place behind it. */
    private short number(byte[] plain, short at, short field, short to) {
        short last = (short) (at + field - 1);
        while (plain[at] == 0 && at < last) {
            at++;
        }
        short length = (short) (last + 1 - at);
        short zero = (short) (plain[at] < 0 ? 1 : 0);
        der[to] = 0x02;
        der[(short) (to + 1)] = (byte) (length + zero);
        der[(short) (to + 2)] = 0;
        return Util.arrayCopyNonAtomic(plain, at, der, (short) (to + 2 + zero), length);
    }

    /** Writes the INTEGER at {@code at} of the DER buffer as unsigned number of {@code field} octets; returns the place behind it. */
    private short integer(short at, short limit, short field, byte[] out, short offset) {
        short length = der[(short) (at + 1)];
        short start = (short) (at + 2);
        short end = (short) (start + length);
        if (der[at] != 0x02 || length <= 0 || end > limit) {
            ISOException.throwIt(Codings.SW_INTERNAL);
        }
        if (der[start] == 0 && length > 1) {
            start++;
            length--;
        }
        if (length > field) {
            ISOException.throwIt(Codings.SW_INTERNAL);
        }
        Util.arrayFillNonAtomic(out, offset, field, (byte) 0);
        Util.arrayCopyNonAtomic(der, start, out, (short) (offset + field - length), length);
        return end;
    }

    private static short run(KeyAgreement how, ECPrivateKey key, byte[] peer, short at, short length, byte[] out, short offset) {
        try {
            how.init(key);
            return how.generateSecret(peer, at, length, out, offset);
        } catch (CryptoException error) {
            ISOException.throwIt(Codings.SW_DATA);
        } catch (IllegalArgumentException error) {
            // How jCardSim says that a point is not on its curve.
            ISOException.throwIt(Codings.SW_DATA);
        } catch (IllegalStateException error) {
            // How it says that a result is the point at infinity.
            ISOException.throwIt(Codings.SW_DATA);
        }
        return 0;
    }

    private static void check(byte curve, byte[] point, short at, short length) {
        if (length != pointBytes(curve) || point[at] != 0x04) {
            ISOException.throwIt(Codings.SW_DATA);
        }
    }

    private ECPrivateKey newPrivate(byte curve, byte[] base, short baseOffset) {
        ECPrivateKey key = (ECPrivateKey) KeyBuilder.buildKey(KeyBuilder.TYPE_EC_FP_PRIVATE, keyBits(curve), false);
        describe(key, curve, base, baseOffset);
        return key;
    }

    /** The platform knows no field of 512 bits; it takes brainpoolP512r1's parameters in a key of its next size. */
    private static short keyBits(byte curve) {
        short field = fieldBytes(curve);
        return field == MAX_FIELD ? KeyBuilder.LENGTH_EC_FP_521 : (short) (field * 8);
    }

    /** Both halves of a pair need this: the platform's defaults are NIST's curves. */
    private void describe(ECKey key, byte curve, byte[] base, short baseOffset) {
        byte[] table = CurveTables.find(curve);
        short field = fieldBytes(curve);
        short point = pointBytes(curve);
        short size = size(curve);
        key.setFieldFP(widened(table, (short) 0, field, size), (short) 0, size);
        key.setA(widened(table, field, field, size), (short) 0, size);
        key.setB(widened(table, (short) (2 * field), field, size), (short) 0, size);
        key.setR(widened(table, (short) (3 * field + point), field, size), (short) 0, size);
        if (base == null) {
            key.setG(table, (short) (3 * field), point);
        } else {
            key.setG(base, baseOffset, point);
        }
        key.setK((short) 1);
    }

    /** Octets of a number of a key object: a shorter number leaves the platform's default in the rest, so it gets leading zeros. */
    private static short size(byte curve) {
        return (short) ((short) (keyBits(curve) + 7) / 8);
    }

    private byte[] widened(byte[] table, short at, short field, short size) {
        Util.arrayFillNonAtomic(wide, (short) 0, (short) (size - field), (byte) 0);
        Util.arrayCopyNonAtomic(table, at, wide, (short) (size - field), field);
        return wide;
    }
}
