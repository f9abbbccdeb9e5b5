package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;

/** Transparent files: one that describes PACE and is never written, one for the identifiers. */
final class FileSystem {
    /** SecurityInfos with one PACEInfo: AES-128, version 2, parameters 13 (TR-03110-3 v2.2, A.1.1.1). */
    private static final byte[] CARD_ACCESS = {
        0x31, 0x14, 0x30, 0x12, 0x06, 0x0A, 0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x04, 0x02, 0x02, 0x02, 0x01, 0x02, 0x02, 0x01, 0x0D
    };
    private static final short NONE = 0;

    private final Memory memory;
    private final short[] selected = JCSystem.makeTransientShortArray((short) 1, JCSystem.CLEAR_ON_RESET);

    FileSystem(Memory memory) {
        this.memory = memory;
    }

    void deselect() {
        selected[0] = NONE;
    }

    /** Selects an elementary file; 6A82 if there is none. */
    void select(short file) {
        if (file != Codings.FILE_CARD_ACCESS && file != Codings.FILE_IDENTIFIERS) {
            ISOException.throwIt(Codings.SW_NO_FILE);
        }
        selected[0] = file;
    }

    /** Offset that P1 and P2 of a binary command name; a short file identifier selects the file too. 6A82, 6986. */
    short address(byte p1, byte p2) {
        if ((p1 & 0x80) != 0) {
            short number = (short) (p1 & 0x7F);
            if (number == (Codings.FILE_CARD_ACCESS & 0x1F)) {
                selected[0] = Codings.FILE_CARD_ACCESS;
            } else if (number == (Codings.FILE_IDENTIFIERS & 0x1F)) {
                selected[0] = Codings.FILE_IDENTIFIERS;
            } else {
                ISOException.throwIt(Codings.SW_NO_FILE);
            }
            return (short) (p2 & 0xFF);
        }
        if (selected[0] == NONE) {
            ISOException.throwIt(Codings.SW_NO_FILE_SELECTED);
        }
        return Util.makeShort(p1, p2);
    }

    /** Appends up to {@code count} bytes of the selected file; false if its end cut them short. 6B00 behind the end. */
    boolean read(short offset, short count, Reply reply) {
        boolean constant = selected[0] == Codings.FILE_CARD_ACCESS;
        short size = constant ? (short) CARD_ACCESS.length : Codings.SIZE_IDENTIFIERS;
        if (offset >= size) {
            ISOException.throwIt(Codings.SW_OFFSET);
        }
        short left = (short) (size - offset);
        boolean whole = count <= left;
        short length = whole ? count : left;
        if (constant) {
            reply.append(CARD_ACCESS, offset, length);
        } else {
            reply.append(memory.image, (short) (memory.fileOffset() + offset), length);
        }
        return whole;
    }

    /** Replaces a part of the selected file, durably; 6982, 6B00, 6A84, 6581. */
    void update(short offset, byte[] data, short length) {
        if (selected[0] == Codings.FILE_CARD_ACCESS) {
            ISOException.throwIt(Codings.SW_SECURITY_STATUS);
        }
        if (offset >= Codings.SIZE_IDENTIFIERS) {
            ISOException.throwIt(Codings.SW_OFFSET);
        }
        if (length > (short) (Codings.SIZE_IDENTIFIERS - offset)) {
            ISOException.throwIt(Codings.SW_MEMORY);
        }
        memory.begin();
        Util.arrayCopyNonAtomic(data, (short) 0, memory.image, (short) (memory.fileOffset() + offset), length);
        if (!memory.commit()) {
            ISOException.throwIt(Codings.SW_WRITE_FAILED);
        }
    }
}
