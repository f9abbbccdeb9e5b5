package smgw.host;

import com.licel.jcardsim.base.TransientMemory;
import java.lang.ref.WeakReference;
import java.util.ArrayList;
import java.util.List;
import javacard.framework.JCSystem;

/**
 * Transient arrays of a simulated card, held weakly.
 *
 * <p>jCardSim asks for a new transient array each time it reads a curve's generator, and its own list of them never shrinks. What an
 * applet still uses it holds itself, so that clearing reaches all that matters.
 */
final class LeanTransientMemory extends TransientMemory {
    private static final int SWEEP_EVERY = 4096;

    // Made on first use: the simulator's constructor may store arrays before this class's fields are there.
    private List<WeakReference<Object>> onReset;
    private List<WeakReference<Object>> onDeselect;
    private int untilSweep;

    @Override
    protected void storeArray(Object array, byte event) {
        if (onReset == null) {
            forgetBuffers();
        }
        (event == JCSystem.CLEAR_ON_RESET ? onReset : onDeselect).add(new WeakReference<>(array));
        if (--untilSweep <= 0) {
            untilSweep = SWEEP_EVERY;
            onReset.removeIf(reference -> reference.get() == null);
            onDeselect.removeIf(reference -> reference.get() == null);
        }
    }

    @Override
    public byte isTransient(Object array) {
        if (array != null && alive(onReset).stream().anyMatch(known -> known == array)) {
            return JCSystem.CLEAR_ON_RESET;
        }
        if (array != null && alive(onDeselect).stream().anyMatch(known -> known == array)) {
            return JCSystem.CLEAR_ON_DESELECT;
        }
        return JCSystem.NOT_A_TRANSIENT_OBJECT;
    }

    /** How many arrays are listed. */
    int listed() {
        return onReset.size() + onDeselect.size();
    }

    @Override
    protected void clearOnDeselect() {
        zero(alive(onDeselect));
    }

    @Override
    protected void clearOnReset() {
        zero(alive(onDeselect));
        zero(alive(onReset));
    }

    @Override
    protected void forgetBuffers() {
        onReset = new ArrayList<>();
        onDeselect = new ArrayList<>();
        untilSweep = SWEEP_EVERY;
    }

    private static List<Object> alive(List<WeakReference<Object>> references) {
        List<Object> arrays = new ArrayList<>();
        if (references != null) {
            for (WeakReference<Object> reference : references) {
                Object array = reference.get();
                if (array != null) {
                    arrays.add(array);
                }
            }
        }
        return arrays;
    }
}
