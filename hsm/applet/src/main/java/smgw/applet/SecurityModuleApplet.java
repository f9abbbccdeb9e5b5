package smgw.applet;

import javacard.framework.APDU;
import javacard.framework.Applet;
import javacard.framework.ISO7816;
import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;
import javacard.security.RandomData;
import javacardx.apdu.ExtendedLength;

/**
 * The security module of a gateway as an applet: takes a command from the platform, has it answered, gives the answer back.
 *
 * <p>Any command gets an answer. A command in the clear, or any fault of secure messaging, ends the session: keys, rights, ephemeral key
 * pairs and the security environment are gone.
 */
public class SecurityModuleApplet extends Applet implements ExtendedLength {
    private static final short REST_AT = 0;
    private static final short REST_SW = 1;
    private static final short ENVELOPED = 2;

    private final Command command = new Command();
    private final Reply reply = new Reply();
    private final Messaging messaging;
    private final Commands commands;
    private final RandomData random;
    private final short[] rest = JCSystem.makeTransientShortArray((short) 3, JCSystem.CLEAR_ON_RESET);

    /**
     * Makes the applet on a memory, and registers it under its name.
     *
     * @param memory what lasts
     */
    protected SecurityModuleApplet(Memory memory) {
        Tlv tlv = new Tlv();
        messaging = new Messaging(tlv);
        random = RandomData.getInstance(RandomData.ALG_KEYGENERATION);
        commands = new Commands(memory, messaging, random, tlv);
        register();
    }

    /**
     * Installs a fresh card.
     *
     * @param parameters the PACE-PIN is the application data of the usual install parameters (AID, control info, data; each with length)
     */
    public static void install(byte[] parameters, short offset, byte length) {
        short at = offset;
        at += (short) (1 + (parameters[at] & 0xFF));
        at += (short) (1 + (parameters[at] & 0xFF));
        short count = (short) (parameters[at] & 0xFF);
        byte[] serial = new byte[Memory.SERIAL_BYTES];
        RandomData.getInstance(RandomData.ALG_KEYGENERATION).nextBytes(serial, (short) 0, Memory.SERIAL_BYTES);
        new SecurityModuleApplet(new Memory(Memory.blank(parameters, (short) (at + 1), count, serial), null));
    }

    /** Mixes entropy of the outside into the generator; on a card with a good generator this adds nothing and harms nothing. */
    protected final void seed(byte[] entropy) {
        random.setSeed(entropy, (short) 0, (short) entropy.length);
    }

    @Override
    public boolean select() {
        endSession();
        return true;
    }

    @Override
    public void deselect() {
        endSession();
    }

    @Override
    public void process(APDU apdu) {
        if (!receive(apdu)) {
            endSession();
            ISOException.throwIt(Codings.SW_LENGTH);
        }
        short limit = command.hasLe() ? command.le() : 256;
        byte cla = command.cla();
        short from = 0;
        short sw;
        if (cla == Codings.CLA_PLAIN && command.ins() == Codings.INS_GET_RESPONSE && rest[REST_AT] != 0) {
            from = rest[REST_AT];
            sw = rest[REST_SW];
        } else {
            rest[REST_AT] = 0;
            if ((cla & ~Codings.CLA_CHAIN) == 0 && command.ins() == Codings.INS_ENVELOPE) {
                sw = open();
                if (rest[ENVELOPED] != 0) {
                    // The parts so far wait in the reply's place.
                    apdu.setOutgoingLength((short) 0);
                    return;
                }
            } else {
                rest[ENVELOPED] = 0;
                reply.clear();
                sw = answer(cla);
            }
        }
        short count = (short) (reply.length() - from);
        if (count > limit) {
            rest[REST_AT] = (short) (from + limit);
            rest[REST_SW] = sw;
            short left = (short) (count - limit);
            sw = (short) (Codings.SW_MORE | (left > 255 ? 0 : left));
            count = limit;
        } else {
            rest[REST_AT] = 0;
        }
        apdu.setOutgoingLength(count);
        apdu.sendBytesLong(reply.data, from, count);
        if (sw != Codings.SW_OK) {
            ISOException.throwIt(sw);
        }
    }

    /** Reads the command; false if it is longer than there is room. Turns the direction of the line. */
    private boolean receive(APDU apdu) {
        byte[] buffer = apdu.getBuffer();
        Util.arrayCopyNonAtomic(buffer, (short) 0, command.header, (short) 0, (short) 4);
        short count = apdu.setIncomingAndReceive();
        short length = apdu.getIncomingLength();
        short at = apdu.getOffsetCdata();
        if (length < 0 || length > Command.MAX_DATA) {
            return false;
        }
        short filled = 0;
        while (count > 0) {
            filled = Util.arrayCopyNonAtomic(buffer, at, command.data, filled, count);
            count = filled < length ? apdu.receiveBytes(at) : 0;
        }
        command.setLength(length);
        short le = apdu.setOutgoing();
        if (le == 0) {
            // The platform shows an extended Le of 0000 as none.
            le = at == ISO7816.OFFSET_EXT_CDATA ? Command.MAX_LE : Command.NO_LE;
        } else if (le < 0) {
            le = Command.MAX_LE;
        }
        command.setLe(le);
        return true;
    }

    /**
     * Takes a part of a command that comes in envelopes, and with the last one answers it as if it had come whole.
     *
     * <p>The parts are kept where the reply will be built: between them there is nothing to say. Envelopes are no part of secure
     * messaging and do not end it.
     */
    private short open() {
        short filled = rest[ENVELOPED];
        rest[ENVELOPED] = 0;
        short sw = Codings.SW_OK;
        if (commands.terminated()) {
            sw = Codings.SW_CONDITIONS;
        } else if (command.p1p2() != 0) {
            sw = Codings.SW_P1P2;
        } else if (command.length() > (short) (Reply.MAX_DATA - filled)) {
            sw = Codings.SW_LENGTH;
        }
        if (sw != Codings.SW_OK) {
            reply.clear();
            return sw;
        }
        if (filled == 0) {
            reply.clear();
        }
        reply.append(command.data, (short) 0, command.length());
        if ((command.cla() & Codings.CLA_CHAIN) != 0) {
            rest[ENVELOPED] = reply.length();
            return Codings.SW_OK;
        }
        boolean whole = command.parse(reply.data, reply.length());
        reply.clear();
        if (!whole) {
            endSession();
            return Codings.SW_LENGTH;
        }
        if (command.ins() == Codings.INS_ENVELOPE || command.ins() == Codings.INS_GET_RESPONSE) {
            return Codings.SW_DATA;
        }
        return answer(command.cla());
    }

    /** Has the command answered and builds the reply, protected if the command was. */
    private short answer(byte cla) {
        if ((cla & ~(Codings.CLA_CHAIN | Codings.CLA_SECURE)) != 0
                || (cla & Codings.CLA_SECURE) != 0 && (cla & Codings.CLA_SECURE) != Codings.CLA_SECURE) {
            endSession();
            return classFault(cla);
        }
        if ((cla & Codings.CLA_SECURE) == 0) {
            if (messaging.alive()) {
                endSession();
            }
            return commands.execute(command, reply, false);
        }
        boolean odd = (command.ins() & 1) != 0;
        try {
            if (!messaging.alive()) {
                ISOException.throwIt(Codings.SW_SM_WRONG);
            }
            messaging.open(command, reply);
        } catch (ISOException error) {
            endSession();
            reply.clear();
            return error.getReason();
        }
        short sw = commands.execute(command, reply, true);
        messaging.close(odd, reply, sw, command.data);
        return sw;
    }

    private void endSession() {
        messaging.end();
        commands.forget();
        rest[REST_AT] = 0;
        rest[ENVELOPED] = 0;
    }

    /** Which part of a class byte is not served (ISO/IEC 7816-4, 5.4.1). */
    private static short classFault(byte cla) {
        if ((cla & 0xE0) != 0) {
            return Codings.SW_CLA;
        }
        return (cla & 0x03) != 0 ? Codings.SW_CHANNEL : Codings.SW_SM_UNSUPPORTED;
    }
}
