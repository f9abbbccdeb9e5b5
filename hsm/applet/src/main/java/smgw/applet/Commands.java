package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;
import javacard.security.RandomData;

/** The commands in the clear, as they are meant: rights, files, keys. Every refusal becomes a status word. */
final class Commands {
    private static final byte[] NAME = {(byte) 0xF0, 'S', 'M', 'G', 'W', 'H', 'S', 'M'};
    private static final byte NO_KEY = 0;
    private static final short SIGNING = 0;
    private static final short AGREEING = 1;
    private static final short REFERENCE = 0;
    private static final short CURVE = 1;

    private final Memory memory;
    private final RandomData random;
    private final Tlv tlv;
    private final KeyStore keys;
    private final FileSystem files;
    private final Pace pace;
    private final Curves curves = new Curves();
    private final Chain chain = new Chain();
    /** The security environment: references of the keys chosen, 0 for none. */
    private final byte[] chosen = JCSystem.makeTransientByteArray((short) 2, JCSystem.CLEAR_ON_RESET);
    private final byte[] template = JCSystem.makeTransientByteArray((short) 2, JCSystem.CLEAR_ON_RESET);

    Commands(Memory memory, Messaging messaging, RandomData random, Tlv tlv) {
        this.memory = memory;
        this.random = random;
        this.tlv = tlv;
        keys = new KeyStore(memory, curves);
        files = new FileSystem(memory);
        pace = new Pace(memory, curves, messaging, random, tlv);
    }

    /** The session has ended. */
    void forget() {
        pace.abort();
        chain.forget();
        keys.clearEphemeral();
        chosen[SIGNING] = NO_KEY;
        chosen[AGREEING] = NO_KEY;
    }

    /** Carries a command out; returns the status word, and data in an empty reply. */
    short execute(Command command, Reply reply, boolean secure) {
        boolean step = command.ins() == Codings.INS_GENERAL_AUTHENTICATE;
        boolean interrupted = pace.running() && !step;
        if (interrupted) {
            pace.abort();
        }
        try {
            if (memory.lifeCycle() == Memory.TERMINATED) {
                ISOException.throwIt(Codings.SW_CONDITIONS);
            }
            if (interrupted && command.ins() != Codings.INS_SELECT && command.ins() != Codings.INS_MSE) {
                ISOException.throwIt(Codings.SW_CHAIN_EXPECTED);
            }
            if (step) {
                chain.interrupt();
            } else if (!chain.complete(command, secure)) {
                return Codings.SW_OK;
            }
            return dispatch(command, reply, secure);
        } catch (ISOException refusal) {
            reply.clear();
            return refusal.getReason();
        } catch (RuntimeException fault) {
            reply.clear();
            return Codings.SW_INTERNAL;
        }
    }

    private short dispatch(Command command, Reply reply, boolean secure) {
        switch (command.ins()) {
            case Codings.INS_SELECT:
                select(command);
                return Codings.SW_OK;
            case Codings.INS_READ_BINARY:
                return readBinary(command, reply, secure);
            case Codings.INS_READ_BINARY_ODD:
                return readBinaryOdd(command, reply, secure);
            case Codings.INS_UPDATE_BINARY:
                updateBinary(command, secure);
                return Codings.SW_OK;
            case Codings.INS_GET_CHALLENGE:
                getChallenge(command, reply, secure);
                return Codings.SW_OK;
            case Codings.INS_MSE:
                return manageEnvironment(command, secure);
            case Codings.INS_GENERAL_AUTHENTICATE:
                generalAuthenticate(command, reply, secure);
                return Codings.SW_OK;
            case Codings.INS_GENERATE_KEY_PAIR:
                generateKeyPair(command, reply, secure);
                return Codings.SW_OK;
            case Codings.INS_PSO:
                if (command.p1p2() == Codings.P1P2_VERIFY_SIGNATURE) {
                    return verify(command, secure) ? Codings.SW_OK : Codings.SW_AUTHENTICATION_FAILED;
                }
                sign(command, reply, secure);
                return Codings.SW_OK;
            case Codings.INS_ACTIVATE:
                activate(command, secure);
                return Codings.SW_OK;
            case Codings.INS_INCREASE:
                increase(command, reply, secure);
                return Codings.SW_OK;
            case Codings.INS_DELETE:
                delete(command, secure);
                return Codings.SW_OK;
            default:
                return Codings.SW_INS;
        }
    }

    private static void require(boolean secure) {
        if (!secure) {
            ISOException.throwIt(Codings.SW_SECURITY_STATUS);
        }
    }

    private static void require(boolean condition, short sw) {
        if (!condition) {
            ISOException.throwIt(sw);
        }
    }

    // --- files -----------------------------------------------------------------------------------------------------------------------

    private void select(Command command) {
        byte[] data = command.data;
        short length = command.length();
        switch (command.p1p2()) {
            case Codings.P1P2_SELECT_NAME:
                require(length == (short) NAME.length && Util.arrayCompare(data, (short) 0, NAME, (short) 0, length) == 0,
                        Codings.SW_NO_FILE);
                files.deselect();
                break;
            case Codings.P1P2_SELECT_MASTER:
                require(length == 0 || length == 2 && Util.getShort(data, (short) 0) == Codings.MASTER_FILE, Codings.SW_NO_FILE);
                files.deselect();
                break;
            case Codings.P1P2_SELECT_FILE:
                require(length == 2, Codings.SW_LENGTH);
                files.select(Util.getShort(data, (short) 0));
                break;
            default:
                ISOException.throwIt(Codings.SW_P1P2);
        }
    }

    private short readBinary(Command command, Reply reply, boolean secure) {
        short offset = files.address(command.p1(), command.p2());
        require(secure || files.isFree());
        require(command.length() == 0 && command.hasLe(), Codings.SW_LENGTH);
        return files.read(offset, command.le(), reply) ? Codings.SW_OK : Codings.SW_END_OF_FILE;
    }

    /** ISO/IEC 7816-4, 11.3.3: offset in object 54, answer in object 53; Le counts the whole object. */
    private short readBinaryOdd(Command command, Reply reply, boolean secure) {
        short before = files.selected();
        if (command.p1p2() != 0) {
            files.select(command.p1p2());
        }
        require(files.selected() != FileSystem.NONE, Codings.SW_NO_FILE_SELECTED);
        byte[] data = command.data;
        short offset;
        try {
            require(secure || files.isFree());
            require(command.hasLe(), Codings.SW_LENGTH);
            tlv.unwrap(Codings.TAG_OFFSET, data, (short) 0, command.length());
            offset = offset(data, tlv.start(), tlv.end());
        } catch (ISOException refusal) {
            files.restore(before);
            throw refusal;
        }
        short le = command.le();
        short room = (short) (le <= 129 ? le - 2 : le - 4);
        // Read behind the place of the longest header, then moved against the real one.
        boolean whole = files.read(offset, room < 1 ? 1 : room, reply);
        short length = reply.length();
        reply.insert(Codings.TAG_DATA, length);
        return whole ? Codings.SW_OK : Codings.SW_END_OF_FILE;
    }

    /** An offset of one to four octets; what no file reaches is the largest there is. */
    private static short offset(byte[] data, short at, short end) {
        require(end > at && (short) (end - at) <= 4, Codings.SW_DATA);
        short value = 0;
        for (; at < end; at++) {
            if (value > 0x7F) {
                return Short.MAX_VALUE;
            }
            value = (short) (value << 8 | data[at] & 0xFF);
            if (value < 0) {
                return Short.MAX_VALUE;
            }
        }
        return value;
    }

    private void increase(Command command, Reply reply, boolean secure) {
        require(secure);
        require(command.p1p2() == Codings.P1P2_INCREASE, Codings.SW_P1P2);
        require(command.length() == 0 && command.hasLe(), Codings.SW_LENGTH);
        files.increase(reply);
    }

    private void updateBinary(Command command, boolean secure) {
        require(secure);
        short offset = files.address(command.p1(), command.p2());
        require(command.length() != 0, Codings.SW_LENGTH);
        files.update(offset, command.data, command.length());
    }

    // --- random numbers, PACE, the security environment ------------------------------------------------------------------------------

    private void getChallenge(Command command, Reply reply, boolean secure) {
        require(secure);
        require(command.p1p2() == 0, Codings.SW_P1P2);
        short count = command.le();
        require(command.length() == 0 && command.hasLe() && count <= Codings.CHALLENGE_MAX_BYTES, Codings.SW_LENGTH);
        random.nextBytes(reply.data, (short) 0, count);
        reply.setLength(count);
    }

    private short manageEnvironment(Command command, boolean secure) {
        short how = command.p1p2();
        if (how == Codings.P1P2_MSE_PACE) {
            require(!secure, Codings.SW_CONDITIONS);
            return pace.select(command.data, command.length());
        }
        require(secure);
        require(how == Codings.P1P2_MSE_SIGN || how == Codings.P1P2_MSE_AGREE, Codings.SW_P1P2);
        byte reference = reference(command);
        keys.require(reference);
        if (how == Codings.P1P2_MSE_SIGN) {
            require(!KeyStore.isEphemeral(reference), Codings.SW_REFERENCE);
            chosen[SIGNING] = reference;
        } else {
            chosen[AGREEING] = reference;
        }
        return Codings.SW_OK;
    }

    private void generalAuthenticate(Command command, Reply reply, boolean secure) {
        require(command.p1p2() == 0, Codings.SW_P1P2);
        boolean chained = (command.cla() & Codings.CLA_CHAIN) != 0;
        if (secure) {
            require(!chained, Codings.SW_CHAINING);
            agree(command, reply);
            return;
        }
        require(pace.running(), Codings.SW_SECURITY_STATUS);
        pace.answer(command.data, command.length(), chained, reply);
    }

    // --- keys ------------------------------------------------------------------------------------------------------------------------

    private void agree(Command command, Reply reply) {
        byte reference = chosen[AGREEING];
        require(reference != NO_KEY, Codings.SW_CONDITIONS);
        try {
            keys.require(reference);
            require(command.hasLe(), Codings.SW_LENGTH);
            byte[] data = command.data;
            tlv.unwrap(Codings.TAG_AGREE, data, (short) 0, command.length());
            tlv.unwrap(Codings.TAG_PEER_POINT, data, tlv.start(), tlv.end());
            short field = Curves.fieldBytes(keys.curve(reference));
            reply.open(Codings.TAG_AGREE, (short) (Reply.overhead(Codings.TAG_SHARED_SECRET, field) + field));
            reply.open(Codings.TAG_SHARED_SECRET, field);
            keys.agree(reference, data, tlv.start(), tlv.length(), reply);
        } finally {
            if (KeyStore.isEphemeral(reference)) {
                // Used up, whatever came of it.
                keys.erase(reference);
                chosen[AGREEING] = NO_KEY;
            }
        }
    }

    private void generateKeyPair(Command command, Reply reply, boolean secure) {
        byte how = command.p1();
        require(how == Codings.P1_GENERATE_NEW || how == Codings.P1_GENERATE_REPLACE || how == Codings.P1_READ_PUBLIC,
                Codings.SW_P1P2);
        require(secure);
        require(command.p2() == 0, Codings.SW_P1P2);
        require(command.hasLe(), Codings.SW_LENGTH);
        boolean reading = how == Codings.P1_READ_PUBLIC;
        readTemplate(command, !reading);
        byte reference = template[REFERENCE];
        if (!reading) {
            require(KeyStore.isKnown(reference), Codings.SW_REFERENCE);
            require(CurveTables.find(template[CURVE]) != null, Codings.SW_DATA);
            require(how != Codings.P1_GENERATE_NEW || !keys.occupied(reference), Codings.SW_EXISTS);
            keys.generate(reference, template[CURVE]);
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

    /** B6 { 84 reference [, 80 curve] } in any order, into {@link #template}. */
    private void readTemplate(Command command, boolean withCurve) {
        byte[] data = command.data;
        boolean named = false;
        boolean described = false;
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
            } else {
                ISOException.throwIt(Codings.SW_DATA);
            }
        }
        require(named && described == withCurve, Codings.SW_DATA);
    }

    private void sign(Command command, Reply reply, boolean secure) {
        require(secure);
        require(command.p1p2() == Codings.P1P2_SIGN, Codings.SW_P1P2);
        byte reference = chosen[SIGNING];
        require(reference != NO_KEY, Codings.SW_CONDITIONS);
        require(command.hasLe(), Codings.SW_LENGTH);
        keys.sign(reference, command.data, command.length(), reply);
    }

    /** 9A digest, 9E r | s, 7F49 { 80 curve, 86 point }: the key comes along, as this card keeps none of others. */
    private boolean verify(Command command, boolean secure) {
        require(secure);
        byte[] data = command.data;
        short limit = command.length();
        tlv.read(data, (short) 0, limit);
        require(tlv.tag() == Codings.TAG_DIGEST, Codings.SW_DATA);
        short digest = tlv.start();
        short digestLength = tlv.length();
        tlv.read(data, tlv.end(), limit);
        require(tlv.tag() == Codings.TAG_SIGNATURE, Codings.SW_DATA);
        short signature = tlv.start();
        short signatureLength = tlv.length();
        require(tlv.end() != limit, Codings.SW_CONDITIONS);
        tlv.unwrap(Codings.TAG_PUBLIC_KEY, data, tlv.end(), limit);
        tlv.read(data, tlv.start(), limit);
        require(tlv.tag() == Codings.TAG_CURVE, Codings.SW_DATA);
        byte curve = tlv.octet(data);
        tlv.unwrap(Codings.TAG_PUBLIC_POINT, data, tlv.end(), limit);
        require(CurveTables.find(curve) != null, Codings.SW_DATA);
        short field = Curves.fieldBytes(curve);
        require(digestLength == field && signatureLength == (short) (2 * field), Codings.SW_DATA);
        return curves.verify(curve, data, tlv.start(), tlv.length(), digest, signature);
    }

    private void activate(Command command, boolean secure) {
        require(secure);
        require(command.length() == 0, Codings.SW_LENGTH);
        require(command.p1() == Codings.P1_PENDING, Codings.SW_P1P2);
        keys.activate(command.p2());
    }

    private void delete(Command command, boolean secure) {
        require(command.p1p2() == 0, Codings.SW_P1P2);
        require(secure);
        byte reference = reference(command);
        keys.require(reference);
        keys.erase(reference);
    }

    /** 84 { reference } as the whole data field. */
    private byte reference(Command command) {
        tlv.unwrap(Codings.TAG_KEY_REFERENCE, command.data, (short) 0, command.length());
        return tlv.octet(command.data);
    }
}
