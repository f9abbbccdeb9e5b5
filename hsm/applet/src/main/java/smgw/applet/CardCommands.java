package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.Util;

/** Commands about the card as a whole: life cycle, the PIN, switching parts off and on, deleting, the counter, the end. */
final class CardCommands {
    private final Context context;
    private final Memory memory;
    private final PublicKeys publics;
    private final Tlv tlv;
    private final KeyCommands keys;

    CardCommands(Context context, KeyCommands keys) {
        this.context = context;
        this.keys = keys;
        memory = context.memory;
        publics = context.publics;
        tlv = context.tlv;
    }

    /** ACTIVATE: the next state of the life cycle, the PIN, a pending key or root, a deactivated key. */
    void activate(Command command) {
        requireNoData(command);
        switch (command.p1()) {
            case Codings.P1_LIFE_CYCLE:
                advance(command.p2());
                break;
            case Codings.P1_PIN:
                switchPin(command.p2(), true);
                break;
            case Codings.P1_PENDING:
                context.require(Access.READ);
                if (command.p2() == Codings.PUBLIC_ROOT) {
                    context.require(Access.IMPORT);
                    publics.activateRoot();
                } else {
                    keys.activatePending(command.p2());
                }
                break;
            case Codings.P1_KEY:
                keys.suspend(command.p2(), true);
                break;
            default:
                refuseParameters();
        }
    }

    /** DEACTIVATE the PIN or a key. */
    void deactivate(Command command) {
        requireNoData(command);
        switch (command.p1()) {
            case Codings.P1_PIN:
                switchPin(command.p2(), false);
                break;
            case Codings.P1_KEY:
                keys.suspend(command.p2(), false);
                break;
            default:
                refuseParameters();
        }
    }

    private void requireNoData(Command command) {
        if (command.length() != 0) {
            context.require(Access.READ);
            ISOException.throwIt(Codings.SW_LENGTH);
        }
    }

    private void refuseParameters() {
        context.require(Access.READ);
        ISOException.throwIt(Codings.SW_P1P2);
    }

    private void switchPin(byte reference, boolean on) {
        context.require(Access.SUSPEND);
        Context.check(reference == Codings.PASSWORD_REFERENCE, Codings.SW_REFERENCE);
        memory.switchPin(on);
    }

    /** Enters the next state; naming the state the card is in changes nothing, so that it can be repeated. */
    private void advance(byte wanted) {
        context.require(Access.READ);
        short rank = Access.rank(wanted);
        Context.check(rank >= 0 || wanted == Codings.LIFE_INITIALISED, Codings.SW_P1P2);
        byte current = memory.lifeCycle();
        if (wanted == current) {
            return;
        }
        context.require(Access.ADVANCE);
        Context.check(rank == (short) (Access.rank(current) + 1), Codings.SW_CONDITIONS);
        // Without them nobody could ever change anything again.
        Context.check(wanted != Codings.LIFE_PERSONALISED
                || publics.stored(Codings.PUBLIC_ROOT) && publics.stored(Codings.PUBLIC_ADMINISTRATOR), Codings.SW_CONDITIONS);
        memory.enter(wanted);
    }

    /** DELETE a key pair (84), an imported public key (83) or a file (62 { 83 }). */
    void delete(Command command) {
        Context.noParameters(command);
        context.require(Access.READ);
        byte[] data = command.data;
        tlv.read(data, (short) 0, command.length());
        Context.check(tlv.end() == command.length(), Codings.SW_DATA);
        switch (tlv.tag()) {
            case Codings.TAG_KEY_REFERENCE:
                context.require(Access.EPHEMERAL);
                keys.delete(tlv.octet(data));
                break;
            case Codings.TAG_FILE_CONTROL:
                tlv.unwrap(Codings.TAG_FILE, data, tlv.start(), tlv.end());
                context.require(Access.MANAGE_FILES);
                Context.check(tlv.length() == 2, Codings.SW_LENGTH);
                context.files.delete(Util.getShort(data, tlv.start()));
                break;
            case Codings.TAG_PUBLIC_REFERENCE:
                context.require(Access.IMPORT);
                byte reference = tlv.octet(data);
                Context.check(publics.stored(reference), Codings.SW_REFERENCE);
                Context.check(reference != Codings.PUBLIC_ROOT && reference != Codings.PUBLIC_ADMINISTRATOR, Codings.SW_CONDITIONS);
                publics.erase(reference);
                break;
            default:
                ISOException.throwIt(Codings.SW_DATA);
        }
    }

    /** TERMINATE DF or TERMINATE CARD USAGE: every key and the PIN are erased, nothing is served again. */
    void terminate(Command command) {
        context.require(Access.TERMINATE);
        Context.noParameters(command);
        Context.check(command.length() == 0, Codings.SW_LENGTH);
        memory.terminate();
        context.keys.clearEphemeral();
        publics.forgetVerified();
    }

    /** INCREASE (a name of ETSI TS 102 221): one more, durable before the new value is told. */
    void increase(Command command, Reply reply) {
        context.require(Access.COUNT);
        Context.check(command.p1p2() == Codings.P1P2_INCREASE, Codings.SW_P1P2);
        Context.check(command.length() == 0 && command.hasLe(), Codings.SW_LENGTH);
        context.files.increase(reply);
    }

    /** CHANGE REFERENCE DATA: old | new with the old PIN, or new alone with the administrator. */
    void changePin(Command command) {
        if (command.p2() != Codings.PASSWORD_REFERENCE) {
            context.require(Access.READ);
            ISOException.throwIt(Codings.SW_REFERENCE);
        }
        byte[] data = command.data;
        short length = command.length();
        short old = 0;
        if (command.p1() == Codings.P1_CHANGE_WITH_OLD) {
            context.require(Access.CHANGE_PIN);
            old = memory.pinLength();
            Context.check(Memory.isPin(data, old, (short) (length - old)), Codings.SW_DATA);
            Context.check(memory.pinLeft() != 0, Codings.SW_BLOCKED);
            memory.useTry();
            if (!matches(data, old)) {
                byte left = memory.pinLeft();
                ISOException.throwIt(left == 0 ? Codings.SW_BLOCKED : (short) (Codings.SW_COUNTER | left));
            }
        } else if (command.p1() == Codings.P1_CHANGE_NEW) {
            context.require(Access.SET_PIN);
            Context.check(Memory.isPin(data, (short) 0, length), Codings.SW_DATA);
        } else {
            refuseParameters();
        }
        memory.renewPin(data, old, (short) (length - old), false);
    }

    /** Compares with the PIN without stopping at the first difference. */
    private boolean matches(byte[] data, short length) {
        byte difference = 0;
        short at = memory.pinOffset();
        for (short i = 0; i < length; i++) {
            difference |= (byte) (data[i] ^ memory.image[(short) (at + i)]);
        }
        return difference == 0;
    }

    /**
     * RESET RETRY COUNTER with a new PIN, or without one.
     *
     * <p>A blocked or deactivated PIN lets nobody run PACE: then, and then only, an administrator who authenticated in the clear may reset
     * the counter (and so switch the PIN on again) without a new PIN.
     */
    void resetPin(Command command) {
        byte how = command.p1();
        if (how != Codings.P1_RESET_ONLY || !context.lockedOut() || !context.administrator()) {
            context.require(Access.SET_PIN);
        }
        Context.check(how == Codings.P1_RESET_ONLY || how == Codings.P1_RESET_WITH_NEW, Codings.SW_P1P2);
        Context.check(command.p2() == Codings.PASSWORD_REFERENCE, Codings.SW_REFERENCE);
        short length = command.length();
        if (how == Codings.P1_RESET_ONLY) {
            Context.check(length == 0, Codings.SW_LENGTH);
        } else {
            Context.check(Memory.isPin(command.data, (short) 0, length), Codings.SW_DATA);
        }
        memory.renewPin(command.data, (short) 0, length, true);
        if (!context.secure()) {
            context.endAdministration();
        }
    }
}
