package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;

/** Transparent files of fixed size: two that the card fills itself, three that the gateway writes, and the counter. */
final class FileSystem {
    /** No file is selected. */
    static final short NONE = 0;

    /** What the files take of the image. */
    static final short STORED_BYTES = (short)
            (Codings.SIZE_IDENTIFIERS + Codings.SIZE_CERTIFICATES + Codings.SIZE_OWN_DATA + Codings.SIZE_COUNTER);

    /** SecurityInfos with one PACEInfo: AES-128, version 2, parameters 13 (TR-03110-3 v2.2, A.1.1.1). */
    private static final byte[] CARD_ACCESS = {
        0x31, 0x14, 0x30, 0x12, 0x06, 0x0A, 0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x04, 0x02, 0x02, 0x02, 0x01, 0x02, 0x02, 0x01, 0x0D
    };
    /** Domain parameters and PACE algorithms that are served. */
    private static final byte[] CRYPTO_INFO = {
        (byte) 0x80, 0x05, 0x0C, 0x0D, 0x0F, 0x10, 0x11,
        0x06, 0x0A, 0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x04, 0x02, 0x02,
        0x06, 0x0A, 0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x04, 0x02, 0x03,
        0x06, 0x0A, 0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x04, 0x02, 0x04
    };
    // Constant files first, then stored ones in the order in which they lie in the image; the counter is last.
    private static final short[] FILES = {
        Codings.FILE_CARD_ACCESS, Codings.FILE_CRYPTO_INFO,
        Codings.FILE_IDENTIFIERS, Codings.FILE_CERTIFICATES, Codings.FILE_OWN_DATA, Codings.FILE_COUNTER
    };
    private static final short[] SIZES = {
        22, 43, Codings.SIZE_IDENTIFIERS, Codings.SIZE_CERTIFICATES, Codings.SIZE_OWN_DATA, Codings.SIZE_COUNTER
    };
    private static final short FIRST_STORED = 2;
    private static final short COUNTER = 5;
    private static final short INFO = 1;

    private final Memory memory;
    private final short[] selected = JCSystem.makeTransientShortArray((short) 1, JCSystem.CLEAR_ON_RESET);

    FileSystem(Memory memory) {
        this.memory = memory;
    }

    void deselect() {
        selected[0] = NONE;
    }

    /** The identifier of the selected file, or {@link #NONE}. */
    short selected() {
        return selected[0];
    }

    /** Selects what was selected before. */
    void restore(short file) {
        selected[0] = file;
    }

    /** Selects an elementary file; 6A82 if there is none. */
    void select(short file) {
        if (find(file) < 0) {
            ISOException.throwIt(Codings.SW_NO_FILE);
        }
        selected[0] = file;
    }

    /** True if anybody may read the selected file. */
    boolean isFree() {
        return selected[0] == Codings.FILE_CARD_ACCESS || selected[0] == Codings.FILE_IDENTIFIERS;
    }

    /** Offset that P1 and P2 of a binary command name; a short file identifier selects the file too. 6A82, 6986. */
    short address(byte p1, byte p2) {
        if ((p1 & 0x80) != 0) {
            short number = (short) (p1 & 0x7F);
            for (short i = 0; i < FILES.length; i++) {
                if ((FILES[i] & 0x1F) == number) {
                    selected[0] = FILES[i];
                    return (short) (p2 & 0xFF);
                }
            }
            ISOException.throwIt(Codings.SW_NO_FILE);
        }
        if (selected[0] == NONE) {
            ISOException.throwIt(Codings.SW_NO_FILE_SELECTED);
        }
        return Util.makeShort(p1, p2);
    }

    /** Appends up to {@code count} bytes of the selected file; false if its end cut them short. 6B00 behind the end. */
    boolean read(short offset, short count, Reply reply) {
        short index = find(selected[0]);
        short size = SIZES[index];
        if (offset >= size) {
            ISOException.throwIt(Codings.SW_OFFSET);
        }
        short left = (short) (size - offset);
        boolean whole = count <= left;
        short length = whole ? count : left;
        if (length > Reply.ROOM) {
            ISOException.throwIt(Codings.SW_LENGTH);
        }
        if (index < FIRST_STORED) {
            reply.append(index == INFO ? CRYPTO_INFO : CARD_ACCESS, offset, length);
        } else {
            reply.append(memory.image, (short) (place(index) + offset), length);
        }
        return whole;
    }

    /** Replaces a part of the selected file, durably; 6982, 6B00, 6A84, 6581. */
    void update(short offset, byte[] data, short length) {
        short index = find(selected[0]);
        if (index < FIRST_STORED || index == COUNTER) {
            ISOException.throwIt(Codings.SW_SECURITY_STATUS);
        }
        if (offset >= SIZES[index]) {
            ISOException.throwIt(Codings.SW_OFFSET);
        }
        if (length > (short) (SIZES[index] - offset)) {
            ISOException.throwIt(Codings.SW_MEMORY);
        }
        memory.begin();
        Util.arrayCopyNonAtomic(data, (short) 0, memory.image, (short) (place(index) + offset), length);
        commit();
    }

    /** Adds one to the counter, durably, and then appends it; 6581. */
    void increase(Reply reply) {
        short place = place(COUNTER);
        short at = (short) (place + Codings.SIZE_COUNTER - 1);
        memory.begin();
        do {
            memory.image[at]++;
        } while (memory.image[at] == 0 && --at >= place);
        commit();
        reply.append(memory.image, place, Codings.SIZE_COUNTER);
    }

    private void commit() {
        if (!memory.commit()) {
            ISOException.throwIt(Codings.SW_WRITE_FAILED);
        }
    }

    /** Where a stored file lies in the image. */
    private short place(short index) {
        short place = memory.filesOffset();
        for (short i = FIRST_STORED; i < index; i++) {
            place += SIZES[i];
        }
        return place;
    }

    private static short find(short file) {
        for (short i = 0; i < FILES.length; i++) {
            if (FILES[i] == file) {
                return i;
            }
        }
        return -1;
    }
}
