package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.Util;
import javacard.security.RandomData;

/** The commands in the clear, as they are meant: which one it is, PACE, and files. Every refusal becomes a status word. */
final class Commands {
    static final byte[] NAME = {(byte) 0xF0, 'S', 'M', 'G', 'W', 'H', 'S', 'M'};

    private final Context context;
    private final Memory memory;
    private final Messaging messaging;
    private final Tlv tlv;
    private final FileSystem files;
    private final Pace pace;
    private final KeyCommands keys;
    private final TrustCommands trust;
    private final CardCommands card;
    private final Chain chain = new Chain();

    Commands(Memory memory, Messaging messaging, RandomData random, Tlv tlv) {
        this.memory = memory;
        this.messaging = messaging;
        this.tlv = tlv;
        context = new Context(memory, random, tlv);
        files = context.files;
        pace = new Pace(memory, context.curves, messaging, random, tlv);
        keys = new KeyCommands(context);
        trust = new TrustCommands(context);
        card = new CardCommands(context, keys);
    }

    /** The session has ended. */
    void forget() {
        pace.abort();
        chain.forget();
        context.forget();
    }

    /** True for a card whose life is over. */
    boolean terminated() {
        return memory.lifeCycle() == Codings.LIFE_TERMINATED;
    }

    /** Carries a command out; returns the status word, and data in an empty reply. */
    short execute(Command command, Reply reply, boolean secure) {
        context.setSecure(secure);
        boolean step = command.ins() == Codings.INS_GENERAL_AUTHENTICATE;
        boolean interrupted = pace.running() && !step;
        if (interrupted) {
            pace.abort();
        }
        try {
            if (terminated()) {
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
            return dispatch(command, reply);
        } catch (ISOException refusal) {
            reply.clear();
            return refusal.getReason();
        } catch (RuntimeException fault) {
            reply.clear();
            return Codings.SW_INTERNAL;
        } finally {
            context.setSecure(false);
        }
    }

    /** Only a reading file says more than 9000 without a refusal, and PACE of a PIN with fewer tries. */
    private short dispatch(Command command, Reply reply) {
        switch (command.ins()) {
            case Codings.INS_SELECT:
                select(command);
                return Codings.SW_OK;
            case Codings.INS_READ_BINARY:
                return readBinary(command, reply);
            case Codings.INS_READ_BINARY_ODD:
                return readBinaryOdd(command, reply);
            case Codings.INS_UPDATE_BINARY:
                updateBinary(command);
                return Codings.SW_OK;
            case Codings.INS_CREATE:
                create(command);
                return Codings.SW_OK;
            case Codings.INS_TERMINATE_FILE:
                context.require(Access.MANAGE_FILES);
                Context.noParameters(command);
                files.terminate();
                return Codings.SW_OK;
            case Codings.INS_GET_CHALLENGE:
                keys.getChallenge(command, reply);
                return Codings.SW_OK;
            case Codings.INS_MSE:
                return manageEnvironment(command);
            case Codings.INS_GENERAL_AUTHENTICATE:
                generalAuthenticate(command, reply);
                return Codings.SW_OK;
            case Codings.INS_GENERATE_KEY_PAIR:
                keys.generate(command, reply);
                return Codings.SW_OK;
            case Codings.INS_PSO:
                operate(command, reply);
                return Codings.SW_OK;
            case Codings.INS_INTERNAL_AUTHENTICATE:
                keys.internalAuthenticate(command, reply);
                return Codings.SW_OK;
            case Codings.INS_EXTERNAL_AUTHENTICATE:
                trust.externalAuthenticate(command);
                return Codings.SW_OK;
            case Codings.INS_CHANGE_REFERENCE_DATA:
                card.changePin(command);
                return Codings.SW_OK;
            case Codings.INS_RESET_RETRY_COUNTER:
                card.resetPin(command);
                return Codings.SW_OK;
            case Codings.INS_ACTIVATE:
                card.activate(command);
                return Codings.SW_OK;
            case Codings.INS_DEACTIVATE:
                card.deactivate(command);
                return Codings.SW_OK;
            case Codings.INS_INCREASE:
                card.increase(command, reply);
                return Codings.SW_OK;
            case Codings.INS_DELETE:
                card.delete(command);
                return Codings.SW_OK;
            case Codings.INS_TERMINATE_APPLICATION:
            case Codings.INS_TERMINATE_CARD:
                card.terminate(command);
                return Codings.SW_OK;
            default:
                return Codings.SW_INS;
        }
    }

    // --- PACE and what MSE and PSO stand for -----------------------------------------------------------------------------------------

    private short manageEnvironment(Command command) {
        switch (command.p1p2()) {
            case Codings.P1P2_MSE_PACE:
                Context.check(!context.secure(), Codings.SW_CONDITIONS);
                short sw = pace.select(command.data, command.length());
                context.chosen[Context.EXTERNAL] = Context.NOTHING;
                return sw;
            case Codings.P1P2_MSE_VERIFY:
                trust.chooseVerifying(command);
                return Codings.SW_OK;
            case Codings.P1P2_MSE_EXTERNAL:
                trust.chooseExternal(command);
                return Codings.SW_OK;
            default:
                keys.choose(command);
                return Codings.SW_OK;
        }
    }

    private void operate(Command command, Reply reply) {
        switch (command.p1p2()) {
            case Codings.P1P2_SIGN:
                keys.sign(command, reply);
                break;
            case Codings.P1P2_EXPORT:
                keys.export(command, reply);
                break;
            case Codings.P1P2_VERIFY_SIGNATURE:
                trust.verifySignature(command);
                break;
            case Codings.P1P2_VERIFY_CERTIFICATE:
                trust.verifyCertificate(command);
                break;
            default:
                context.require(Access.USE_KEY);
                ISOException.throwIt(Codings.SW_P1P2);
        }
    }

    private void generalAuthenticate(Command command, Reply reply) {
        Context.noParameters(command);
        boolean chained = (command.cla() & Codings.CLA_CHAIN) != 0;
        if (context.secure()) {
            context.require(Access.USE_KEY);
            Context.check(!chained, Codings.SW_CHAINING);
            keys.agree(command, reply);
            return;
        }
        Context.check(pace.running(), Codings.SW_SECURITY_STATUS);
        pace.answer(command.data, command.length(), chained, reply);
        if (messaging.alive()) {
            // Whatever was chosen in the clear does not reach into the session.
            context.forget();
        }
    }

    // --- files -----------------------------------------------------------------------------------------------------------------------

    private void select(Command command) {
        byte[] data = command.data;
        short length = command.length();
        switch (command.p1p2()) {
            case Codings.P1P2_SELECT_NAME:
                Context.check(length == (short) NAME.length && Util.arrayCompare(data, (short) 0, NAME, (short) 0, length) == 0,
                        Codings.SW_NO_FILE);
                files.deselect();
                context.endAdministration();
                break;
            case Codings.P1P2_SELECT_MASTER:
                Context.check(length == 0 || length == 2 && Util.getShort(data, (short) 0) == Codings.MASTER_FILE, Codings.SW_NO_FILE);
                files.deselect();
                break;
            case Codings.P1P2_SELECT_FILE:
                Context.check(length == 2, Codings.SW_LENGTH);
                files.select(Util.getShort(data, (short) 0));
                break;
            default:
                ISOException.throwIt(Codings.SW_P1P2);
        }
    }

    private short readBinary(Command command, Reply reply) {
        short offset = files.address(command.p1(), command.p2());
        requireReading();
        Context.check(command.length() == 0 && command.hasLe(), Codings.SW_LENGTH);
        return files.read(offset, command.le(), reply) ? Codings.SW_OK : Codings.SW_END_OF_FILE;
    }

    /** ISO/IEC 7816-4, 11.3.3: offset in object 54, answer in object 53; Le counts the whole object. */
    private short readBinaryOdd(Command command, Reply reply) {
        short before = files.selected();
        if (command.p1p2() != 0) {
            files.address(command.p1p2());
        }
        Context.check(files.selected() != FileSystem.NONE, Codings.SW_NO_FILE_SELECTED);
        byte[] data = command.data;
        short offset;
        try {
            requireReading();
            Context.check(command.hasLe(), Codings.SW_LENGTH);
            tlv.unwrap(Codings.TAG_OFFSET, data, (short) 0, command.length());
            Context.check(tlv.length() >= 1 && tlv.length() <= 4, Codings.SW_DATA);
            offset = number(data, tlv.start(), tlv.end());
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

    private void requireReading() {
        if (!files.isFree()) {
            context.require(Access.READ);
        }
    }

    private void updateBinary(Command command) {
        // The least that any update needs.
        context.require(Access.UPDATE_OWN);
        short offset = files.address(command.p1(), command.p2());
        context.require(files.updating());
        files.update(offset, command.data, command.length());
    }

    /** 62 { 83 identifier, 80 size in bytes } in any order. */
    private void create(Command command) {
        context.require(Access.MANAGE_FILES);
        Context.noParameters(command);
        byte[] data = command.data;
        tlv.unwrap(Codings.TAG_FILE_CONTROL, data, (short) 0, command.length());
        short limit = tlv.end();
        short file = 0;
        short size = -1;
        boolean named = false;
        for (short at = tlv.start(); at < limit; at = tlv.end()) {
            tlv.read(data, at, limit);
            if (tlv.tag() == Codings.TAG_FILE && !named && tlv.length() == 2) {
                named = true;
                file = Util.getShort(data, tlv.start());
            } else if (tlv.tag() == Codings.TAG_FILE_SIZE && size < 0) {
                size = number(data, tlv.start(), tlv.end());
            } else {
                ISOException.throwIt(Codings.SW_DATA);
            }
        }
        Context.check(named && size > 0, Codings.SW_DATA);
        files.create(file, size);
    }

    /** An unsigned number; what no file reaches is the largest there is. */
    private static short number(byte[] data, short at, short end) {
        short value = 0;
        for (; at < end; at++) {
            if (value > 0x7F) {
                return Short.MAX_VALUE;
            }
            value = (short) (value << 8 | data[at] & 0xFF);
        }
        return value;
    }
}
