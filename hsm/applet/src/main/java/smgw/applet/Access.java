package smgw.applet;

/** Who may do what in which state of the life cycle: the Java side of {@code hsm/emulator/access.py}, which leads. */
final class Access {
    static final byte READ = 0;
    static final byte UPDATE_OWN = 1;
    static final byte UPDATE = 2;
    static final byte UPDATE_ONCE = 3;
    static final byte MANAGE_FILES = 4;
    static final byte RANDOM = 5;
    static final byte EPHEMERAL = 6;
    static final byte USE_KEY = 7;
    static final byte GENERATE = 8;
    static final byte GENERATE_PENDING = 9;
    static final byte MANAGE_KEYS = 10;
    static final byte SUSPEND = 11;
    static final byte STORE_KEY = 12;
    static final byte NET_KEY = 13;
    static final byte SERVICE_KEY = 14;
    static final byte IMPORT = 15;
    static final byte ADMINISTRATOR = 16;
    static final byte CHANGE_PIN = 17;
    static final byte SET_PIN = 18;
    static final byte COUNT = 19;
    static final byte ADVANCE = 20;
    static final byte TERMINATE = 21;

    /** Needs secure messaging after PACE. */
    static final byte P = 1;
    /** Needs the administrator, authenticated in secure messaging, too. */
    static final byte G = 2;
    /** Nobody may. */
    static final byte N = 3;

    private static final short STATES = 3;
    private static final byte[] TABLE = {
        // pre-personalised, personalised, operational; a card is made pre-personalised, and a terminated one refuses everything
        P, P, P, // READ
        P, P, P, // UPDATE_OWN
        P, P, G, // UPDATE
        P, P, N, // UPDATE_ONCE
        P, G, G, // MANAGE_FILES
        P, P, P, // RANDOM
        P, P, P, // EPHEMERAL
        P, P, P, // USE_KEY
        P, G, N, // GENERATE
        P, G, G, // GENERATE_PENDING
        P, G, G, // MANAGE_KEYS
        N, G, G, // SUSPEND
        P, P, P, // STORE_KEY
        P, P, P, // NET_KEY
        P, P, P, // SERVICE_KEY
        P, G, G, // IMPORT
        P, P, P, // ADMINISTRATOR
        P, G, G, // CHANGE_PIN
        N, G, G, // SET_PIN
        P, P, P, // COUNT
        P, G, N, // ADVANCE
        N, N, G, // TERMINATE
    };

    private Access() {}

    /** What an action needs in a state: {@link #P}, {@link #G} or {@link #N}. */
    static byte right(byte lifeCycle, byte action) {
        short state = rank(lifeCycle);
        return state < 0 ? N : TABLE[(short) (action * STATES + state)];
    }

    /** Place of a state in their order, from pre-personalised 0 to operational 2; -1 for any other. */
    static short rank(byte lifeCycle) {
        switch (lifeCycle) {
            case Codings.LIFE_PRE_PERSONALISED:
                return 0;
            case Codings.LIFE_PERSONALISED:
                return 1;
            case Codings.LIFE_OPERATIONAL:
                return 2;
            default:
                return -1;
        }
    }
}
