/**
 * The security module as a Java Card applet: what runs on the card.
 *
 * <p>Uses {@code javacard.*} alone, and of Java only what Java Card has: no strings, no {@code int} arithmetic beyond constants, no
 * reflection, no threads. What must not outlive a session lies in transient memory; what must last lies in one array ({@link
 * smgw.applet.Memory}). The codings are those of {@code hsm/profile.py}; a test compares {@link smgw.applet.Codings} with it.
 */
package smgw.applet;
