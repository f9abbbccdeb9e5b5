package smgw.host;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.licel.jcardsim.base.Simulator;
import java.lang.reflect.Constructor;
import java.net.URL;
import java.net.URLClassLoader;
import java.security.SecureRandom;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

/** jCardSim's generator without a seed is there, and is not used. */
class RandomnessTest {
    private static final String NAME = "com.licel.jcardsim.crypto.SecureRandomNullProvider";

    private static byte[] draw(Class<?> generator) throws ReflectiveOperationException {
        Constructor<?> constructor = generator.getDeclaredConstructor();
        constructor.setAccessible(true);
        byte[] bytes = new byte[32];
        ((SecureRandom) constructor.newInstance()).nextBytes(bytes);
        return bytes;
    }

    @Test
    void theJarsOwnGeneratorAlwaysSaysTheSame() throws Exception {
        URL jar = Simulator.class.getProtectionDomain().getCodeSource().getLocation();
        try (URLClassLoader alone = new URLClassLoader(new URL[] {jar}, ClassLoader.getPlatformClassLoader())) {
            Class<?> generator = alone.loadClass(NAME);
            // If this fails, jCardSim has mended it and our class may go.
            assertArrayEquals(draw(generator), draw(generator));
        }
    }

    @Test
    void ourGeneratorDoesNot() throws Exception {
        Class<?> generator = Class.forName(NAME);
        assertFalse(Arrays.equals(draw(generator), draw(generator)));
    }

    @Test
    void theHostSeesThatOursComesFirst() {
        assertDoesNotThrow(Host::requireGoodRandomness);
    }

    @Test
    void theHostRefusesAFixedSeed() {
        System.setProperty("com.licel.jcardsim.randomdata.seed", "00");
        try {
            assertThrows(IllegalStateException.class, Host::requireGoodRandomness);
        } finally {
            System.clearProperty("com.licel.jcardsim.randomdata.seed");
        }
    }

    @Test
    void theSwitchOfItsRandomDataIsSet() {
        Host.requireGoodRandomness();
        assertEquals("1", System.getProperty("com.licel.jcardsim.randomdata.secure"));
    }
}
