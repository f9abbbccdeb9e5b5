package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;

/** A command in several parts (ISO/IEC 7816-4, 5.3.3): every part but the last has the chaining bit, and all have one header. */
final class Chain {
    private static final short FILLED = 0;
    private static final short BEGUN = 1;
    private static final short HEADER = 3;

    private final byte[] parts = JCSystem.makeTransientByteArray(Command.MAX_DATA, JCSystem.CLEAR_ON_RESET);
    private final byte[] header = JCSystem.makeTransientByteArray(HEADER, JCSystem.CLEAR_ON_RESET);
    private final short[] numbers = JCSystem.makeTransientShortArray((short) 2, JCSystem.CLEAR_ON_RESET);

    /** Forgets the parts so far. */
    void forget() {
        Util.arrayFillNonAtomic(parts, (short) 0, numbers[FILLED], (byte) 0);
        numbers[FILLED] = 0;
        numbers[BEGUN] = 0;
    }

    /** 6883 if another command's parts wait for their end, and forgets them. */
    void interrupt() {
        if (numbers[BEGUN] != 0) {
            forget();
            ISOException.throwIt(Codings.SW_CHAIN_EXPECTED);
        }
    }

    /**
     * Adds a part, and makes the command whole with the last one.
     *
     * @return false while parts are missing
     */
    boolean complete(Command command, boolean secure) {
        boolean last = (command.cla() & Codings.CLA_CHAIN) == 0;
        if (numbers[BEGUN] != 0 && Util.arrayCompare(command.header, (short) 1, header, (short) 0, HEADER) != 0) {
            interrupt();
        }
        if (last && numbers[BEGUN] == 0) {
            return true;
        }
        short filled = numbers[FILLED];
        short sw = Codings.SW_OK;
        byte ins = command.ins();
        if (ins != Codings.INS_UPDATE_BINARY && ins != Codings.INS_PSO && ins != Codings.INS_EXTERNAL_AUTHENTICATE) {
            sw = Codings.SW_CHAINING;
        } else if (!secure) {
            sw = Codings.SW_SECURITY_STATUS;
        } else if (command.length() > (short) (Command.MAX_DATA - filled)) {
            sw = Codings.SW_LENGTH;
        }
        if (sw != Codings.SW_OK) {
            forget();
            ISOException.throwIt(sw);
        }
        filled = Util.arrayCopyNonAtomic(command.data, (short) 0, parts, filled, command.length());
        numbers[FILLED] = filled;
        numbers[BEGUN] = 1;
        Util.arrayCopyNonAtomic(command.header, (short) 1, header, (short) 0, HEADER);
        if (last) {
            Util.arrayCopyNonAtomic(parts, (short) 0, command.data, (short) 0, filled);
            command.setLength(filled);
            forget();
        }
        return last;
    }
}
