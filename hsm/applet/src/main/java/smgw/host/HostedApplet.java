package smgw.host;

import java.security.SecureRandom;
import smgw.applet.Memory;
import smgw.applet.SecurityModuleApplet;

/** The applet on a memory that the host brings; jCardSim's installer has no room for one in its parameters. */
public final class HostedApplet extends SecurityModuleApplet {
    private static final int ENTROPY_BYTES = 48;

    private static Memory next;

    private HostedApplet(Memory memory) {
        super(memory);
        // RandomData of jCardSim 3.0.6.0 has a fixed seed of its own.
        byte[] entropy = new byte[ENTROPY_BYTES];
        new SecureRandom().nextBytes(entropy);
        seed(entropy);
    }

    /** Says on which memory the next applet stands; the caller installs it at once. */
    static void prepare(Memory memory) {
        next = memory;
    }

    /** Called by the simulator; the parameters are not looked at. */
    public static void install(byte[] parameters, short offset, byte length) {
        Memory memory = next;
        next = null;
        new HostedApplet(memory);
    }
}
