package smgw.host;

import com.licel.jcardsim.base.Simulator;
import com.licel.jcardsim.base.SimulatorRuntime;
import javacard.framework.AID;
import smgw.applet.Memory;

/**
 * One card: the applet in jCardSim, and what a card's operating system does around it. Not thread-safe.
 *
 * <p>The applet is the default application: it is selected whenever power comes. A command whose lengths do not agree never reaches it.
 */
public final class SimulatedCard {
    /** T=1, no historical bytes. */
    private static final byte[] ATR = {0x3B, (byte) 0x80, (byte) 0x80, 0x01, 0x01};

    private static final byte[] NAME = {(byte) 0xF0, 'S', 'M', 'G', 'W', 'H', 'S', 'M'};
    private static final byte[] WRONG_LENGTH = {0x67, 0x00};
    /** An instruction nobody knows, in the clear: ends whatever session there is. */
    private static final byte[] INTERRUPTION = {0x00, 0x00, 0x00, 0x00};

    private final AID aid = new AID(NAME, (short) 0, (byte) NAME.length);
    private final Simulator simulator;
    private boolean powered;

    /** Puts the applet on a card with this memory; the card is not powered yet. */
    public SimulatedCard(Memory memory) {
        simulator = new Simulator(new Runtime());
        simulator.changeProtocol("T=1");
        HostedApplet.prepare(memory);
        simulator.installApplet(aid, HostedApplet.class);
    }

    /** The answer to reset. */
    public byte[] atr() {
        return ATR.clone();
    }

    /** Power on, or a reset: nothing volatile survives it. */
    public void reset() {
        simulator.reset();
        simulator.selectApplet(aid);
        powered = true;
    }

    /** Power off. */
    public void off() {
        simulator.reset();
        powered = false;
    }

    /** Answers a command; an unpowered card answers nothing (no bytes). */
    public byte[] apdu(byte[] command) {
        if (!powered) {
            return new byte[0];
        }
        if (!wellFormed(command)) {
            simulator.transmitCommand(INTERRUPTION);
            return WRONG_LENGTH.clone();
        }
        return simulator.transmitCommand(command);
    }

    /** True for one of the seven cases of ISO/IEC 7816-3, 12.1.3. */
    static boolean wellFormed(byte[] command) {
        int size = command.length;
        if (size < 4) {
            return false;
        }
        if (size <= 5) {
            return true;
        }
        int first = command[4] & 0xFF;
        if (first != 0) {
            return size == 5 + first || size == 6 + first;
        }
        if (size < 7) {
            return false;
        }
        if (size == 7) {
            return true;
        }
        int length = (command[5] & 0xFF) << 8 | command[6] & 0xFF;
        // jCardSim counts in signed 16 bits.
        return length != 0 && length < Short.MAX_VALUE - 16 && (size == 7 + length || size == 9 + length);
    }

    /** jCardSim drops the data of an answer whose status word is an error; under secure messaging that is its protection. */
    private static final class Runtime extends SimulatorRuntime {
        Runtime() {
            super(new LeanTransientMemory());
        }

        @Override
        protected boolean isNotAbortingCase(byte[] status) {
            return true;
        }
    }
}
