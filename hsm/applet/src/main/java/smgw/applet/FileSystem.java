package smgw.applet;

import javacard.framework.ISOException;
import javacard.framework.JCSystem;
import javacard.framework.Util;

/**
 * Transparent files of fixed size: three that the card fills itself, three that the gateway writes, the counter, and files that were
 * created, which share one pool and lie in it in the order of their table, without gaps.
 */
final class FileSystem {
    /** No file is selected. */
    static final short NONE = 0;

    /** How many files can be created. */
    static final short CREATED_COUNT = 8;

    /** How long they can be together. */
    static final short POOL_BYTES = 2048;

    // An entry of the table: identifier (0: free), size, 1 if terminated.
    private static final short ENTRY = 5;
    private static final short SIZE = 2;
    private static final short CLOSED = 4;
    private static final short TABLE_AT = (short)
            (Codings.SIZE_IDENTIFIERS + Codings.SIZE_CERTIFICATES + Codings.SIZE_OWN_DATA + Codings.SIZE_COUNTER);
    private static final short POOL_AT = (short) (TABLE_AT + CREATED_COUNT * ENTRY);

    /** What the files take of the image. */
    static final short STORED_BYTES = (short) (POOL_AT + POOL_BYTES);

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
        Codings.FILE_CARD_ACCESS, Codings.FILE_CRYPTO_INFO, Codings.FILE_STATUS,
        Codings.FILE_IDENTIFIERS, Codings.FILE_CERTIFICATES, Codings.FILE_OWN_DATA, Codings.FILE_COUNTER
    };
    private static final short[] SIZES = {
        22, 43, 0, Codings.SIZE_IDENTIFIERS, Codings.SIZE_CERTIFICATES, Codings.SIZE_OWN_DATA, Codings.SIZE_COUNTER
    };
    private static final short INFO = 1;
    private static final short STATUS = 2;
    private static final short FIRST_STORED = 3;
    private static final short COUNTER = 6;
    private static final short FIRST_CREATED = 7;

    private final Memory memory;
    private final KeyStore keys;
    private final PublicKeys publics;
    private final short[] selected = JCSystem.makeTransientShortArray((short) 1, JCSystem.CLEAR_ON_RESET);

    FileSystem(Memory memory, KeyStore keys, PublicKeys publics) {
        this.memory = memory;
        this.keys = keys;
        this.publics = publics;
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

    /** Selects an elementary file; 6A82 if there is none, 6285 if it is terminated (it is selected all the same). */
    void select(short file) {
        short index = find(file);
        if (index < 0) {
            ISOException.throwIt(Codings.SW_NO_FILE);
        }
        selected[0] = file;
        requireOpen(index);
    }

    /** Selects for the odd instruction, which looks at the file's content first. */
    void address(short file) {
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

    /** Fills an empty reply with up to {@code count} bytes of the selected file; false if its end cut them short. 6285, 6B00 behind the end. */
    boolean read(short offset, short count, Reply reply) {
        short index = find(selected[0]);
        requireOpen(index);
        if (index == STATUS) {
            status(reply);
        }
        short size = index == STATUS ? reply.length() : size(index);
        if (offset >= size) {
            ISOException.throwIt(Codings.SW_OFFSET);
        }
        short left = (short) (size - offset);
        boolean whole = count <= left;
        short length = whole ? count : left;
        if (length > Reply.ROOM) {
            ISOException.throwIt(Codings.SW_LENGTH);
        }
        if (index == STATUS) {
            Util.arrayCopyNonAtomic(reply.data, offset, reply.data, (short) 0, length);
            reply.setLength(length);
        } else if (index < FIRST_STORED) {
            reply.append(index == INFO ? CRYPTO_INFO : CARD_ACCESS, offset, length);
        } else {
            reply.append(memory.image, (short) (place(index) + offset), length);
        }
        return whole;
    }

    /** What the card tells about itself; nothing secret. */
    private void status(Reply reply) {
        reply.open(Codings.TAG_SERIAL, Memory.SERIAL_BYTES);
        reply.append(memory.image, memory.serialOffset(), Memory.SERIAL_BYTES);
        reply.open(Codings.TAG_LIFE_CYCLE, (short) 1);
        reply.append(memory.lifeCycle());
        reply.open(Codings.TAG_TRIES, (short) 2);
        reply.append(memory.pinLeft());
        reply.append(memory.pinTries());
        short at = list(Codings.TAG_KEY_REFERENCE, reply);
        keys.list(reply, false);
        close(reply, at);
        at = list(Codings.TAG_PUBLIC_REFERENCE, reply);
        publics.list(reply);
        close(reply, at);
        at = list(Codings.TAG_DEACTIVATED, reply);
        keys.list(reply, true);
        close(reply, at);
    }

    private static short list(short tag, Reply reply) {
        reply.open(tag, (short) 0);
        return reply.length();
    }

    private static void close(Reply reply, short at) {
        reply.data[(short) (at - 1)] = (byte) (reply.length() - at);
    }

    /** The right that an update of the selected file needs; 6982 if nobody has it. */
    byte updating() {
        switch (selected[0]) {
            case Codings.FILE_IDENTIFIERS:
                return Access.UPDATE_ONCE;
            case Codings.FILE_OWN_DATA:
                return Access.UPDATE_OWN;
            default:
                short index = find(selected[0]);
                if (index < FIRST_STORED || index == COUNTER) {
                    ISOException.throwIt(Codings.SW_SECURITY_STATUS);
                }
                return Access.UPDATE;
        }
    }

    /** Replaces a part of the selected file, durably; 6285, 6700 for nothing, 6B00, 6A84, 6581. */
    void update(short offset, byte[] data, short length) {
        short index = find(selected[0]);
        requireOpen(index);
        if (length == 0) {
            ISOException.throwIt(Codings.SW_LENGTH);
        }
        if (offset < 0 || offset >= size(index)) {
            ISOException.throwIt(Codings.SW_OFFSET);
        }
        if (length > (short) (size(index) - offset)) {
            ISOException.throwIt(Codings.SW_MEMORY);
        }
        memory.begin();
        memory.write(data, (short) 0, (short) (place(index) + offset), length);
        memory.settle();
    }

    /** Creates a file and selects it; 6A80 for a name nobody may have, 6A8A, 6A84 if there is no room, 6581. */
    void create(short file, short size) {
        if (file == 0 || file == Codings.MASTER_FILE || file == (short) 0xFFFF) {
            ISOException.throwIt(Codings.SW_DATA);
        }
        if (find(file) >= 0) {
            ISOException.throwIt(Codings.SW_FILE_EXISTS);
        }
        short index = FIRST_CREATED;
        short used = 0;
        while (index < (short) (FIRST_CREATED + CREATED_COUNT) && identifier(index) != 0) {
            used += size(index);
            index++;
        }
        if (index == (short) (FIRST_CREATED + CREATED_COUNT) || size > (short) (POOL_BYTES - used)) {
            ISOException.throwIt(Codings.SW_MEMORY);
        }
        short entry = entry(index);
        memory.begin();
        Util.setShort(memory.image, entry, file);
        Util.setShort(memory.image, (short) (entry + SIZE), size);
        memory.settle();
        selected[0] = file;
    }

    /** Deletes a created file; 6A82, 6982 for one that belongs to the card, 6581. */
    void delete(short file) {
        short index = find(file);
        if (index < 0) {
            ISOException.throwIt(Codings.SW_NO_FILE);
        }
        requireCreated(index);
        short end = (short) (memory.filesOffset() + STORED_BYTES);
        short from = place(index);
        short size = size(index);
        short entry = entry(index);
        short table = (short) (memory.filesOffset() + POOL_AT);
        memory.begin();
        // What is behind it moves up, in the pool and in the table.
        memory.write(memory.image, (short) (from + size), from, (short) (end - from - size));
        memory.wipe((short) (end - size), size);
        memory.write(memory.image, (short) (entry + ENTRY), entry, (short) (table - entry - ENTRY));
        memory.wipe((short) (table - ENTRY), ENTRY);
        memory.settle();
        if (selected[0] == file) {
            selected[0] = NONE;
        }
    }

    /** The selected file, which was created, loses its content for good; 6986, 6982, 6581. */
    void terminate() {
        if (selected[0] == NONE) {
            ISOException.throwIt(Codings.SW_NO_FILE_SELECTED);
        }
        short index = find(selected[0]);
        requireCreated(index);
        memory.begin();
        memory.wipe(place(index), size(index));
        memory.image[(short) (entry(index) + CLOSED)] = 1;
        memory.settle();
    }

    private static void requireCreated(short index) {
        if (index < FIRST_CREATED) {
            ISOException.throwIt(Codings.SW_SECURITY_STATUS);
        }
    }

    private void requireOpen(short index) {
        if (index >= FIRST_CREATED && memory.image[(short) (entry(index) + CLOSED)] != 0) {
            ISOException.throwIt(Codings.SW_TERMINATED);
        }
    }

    /** Adds one to the counter, durably, and then appends it; 6581. */
    void increase(Reply reply) {
        short place = place(COUNTER);
        short at = (short) (place + Codings.SIZE_COUNTER - 1);
        memory.begin();
        do {
            memory.image[at]++;
        } while (memory.image[at] == 0 && --at >= place);
        memory.settle();
        reply.append(memory.image, place, Codings.SIZE_COUNTER);
    }

    private short entry(short index) {
        return (short) (memory.filesOffset() + TABLE_AT + (index - FIRST_CREATED) * ENTRY);
    }

    private short identifier(short index) {
        return Util.getShort(memory.image, entry(index));
    }

    private short size(short index) {
        return index < FIRST_CREATED ? SIZES[index] : Util.getShort(memory.image, (short) (entry(index) + SIZE));
    }

    /** Where a stored file lies in the image. */
    private short place(short index) {
        short place = memory.filesOffset();
        short first = FIRST_STORED;
        if (index >= FIRST_CREATED) {
            place += POOL_AT;
            first = FIRST_CREATED;
        }
        for (short i = first; i < index; i++) {
            place += size(i);
        }
        return place;
    }

    private short find(short file) {
        for (short i = 0; i < FILES.length; i++) {
            if (FILES[i] == file) {
                return i;
            }
        }
        for (short i = FIRST_CREATED; i < (short) (FIRST_CREATED + CREATED_COUNT); i++) {
            if (file != NONE && identifier(i) == file) {
                return i;
            }
        }
        return -1;
    }
}
